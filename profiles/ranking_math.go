package profiles

import (
	"cmp"
	"math"
	"slices"
)

// moments gathers count, mean and squared deviations of a stream of values, by Welford's method. The zero value is ready.
type moments struct{ n, mean, m2 float64 }

func (m *moments) add(v float64) {
	m.n++
	d := v - m.mean
	m.mean += d / m.n
	m.m2 += d * (v - m.mean)
}

// withZeros returns the moments of what was added and as many zeros as make n values of it (Chan, Golub and LeVeque, 1979).
func (m moments) withZeros(n float64) moments {
	if n <= m.n {
		return m
	}
	return moments{n: n, mean: m.mean * m.n / n, m2: m.m2 + m.mean*m.mean*m.n*(n-m.n)/n}
}

// variance is the sample's estimate for the population; 0 of fewer than two values.
func (m moments) variance() float64 {
	if m.n < 2 {
		return 0
	}
	return m.m2 / (m.n - 1)
}

// welch tests whether two samples have one mean, without supposing that they have one variance: B. L. Welch, "The generalization of 'Student's' problem when
// several different population variances are involved", Biometrika 34 (1947). It returns t, the degrees of freedom after Welch and Satterthwaite, and the natural
// logarithm of the two-sided p-value. va and vb are the variances to be used. Fewer than two values on a side say nothing: logP is 0.
func welch(a, b moments, va, vb float64) (t, df, logP float64) {
	if a.n < 2 || b.n < 2 {
		return 0, 0, 0
	}
	diff := b.mean - a.mean
	if diff == 0 {
		return 0, a.n + b.n - 2, 0
	}
	sa, sb := va/a.n, vb/b.n
	if sa+sb <= diff*diff*1e-18 {
		sa, sb = diff*diff*0.5e-18, diff*diff*0.5e-18 // no spread at all: as certain as numbers get, not infinite
	}
	t = diff / math.Sqrt(sa+sb)
	df = (sa + sb) * (sa + sb) / (sa*sa/(a.n-1) + sb*sb/(b.n-1))
	return t, df, logStudent(t, df)
}

// logStudent returns the natural logarithm of P(|T| ≥ |t|) for Student's T with df degrees of freedom, the regularised incomplete beta function I(x; df/2, 1/2) at
// x = df/(df+t²). In log space certainties far below the smallest float64 keep their order.
func logStudent(t, df float64) float64 {
	if t == 0 {
		return 0
	}
	lnU := 2*math.Log(math.Abs(t)) - math.Log(df) // of t²/df, which may pass what a float64 holds
	lnMore := lnU                                 // of 1 + t²/df
	if lnU < 40 {
		lnMore = math.Log1p(math.Exp(lnU))
	}
	return math.Min(logBetaInc(df/2, 0.5, -lnMore, lnU-lnMore), 0)
}

// logBetaInc returns ln I(x; a, b), x given as ln x and ln(1-x) so that neither end loses digits. The continued fraction is that of DLMF 8.17.22.
func logBetaInc(a, b, lnX, lnY float64) float64 {
	ga, _ := math.Lgamma(a)
	gb, _ := math.Lgamma(b)
	gab, _ := math.Lgamma(a + b)
	front := gab - ga - gb + a*lnX + b*lnY
	if x := math.Exp(lnX); x < (a+1)/(a+b+2) {
		return front + math.Log(betaFraction(a, b, x)) - math.Log(a)
	}
	return math.Log1p(-math.Exp(front) * betaFraction(b, a, math.Exp(lnY)) / b)
}

// betaFraction evaluates the continued fraction of the incomplete beta function by Lentz's method; it converges in O(√max(a, b)) steps for x < (a+1)/(a+b+2).
func betaFraction(a, b, x float64) float64 {
	const tiny = 1e-300
	away := func(v float64) float64 {
		if math.Abs(v) < tiny {
			return tiny
		}
		return v
	}
	c, d := 1.0, 1/away(1-(a+b)*x/(a+1))
	h := d
	for i := 1.0; i < 10_000; i++ {
		for _, num := range [2]float64{
			i * (b - i) * x / ((a + 2*i - 1) * (a + 2*i)),
			-(a + i) * (a + b + i) * x / ((a + 2*i) * (a + 2*i + 1)),
		} {
			d = 1 / away(1+num*d)
			c = away(1 + num/c)
			h *= d * c
		}
		if math.Abs(d*c-1) < 1e-15 {
			break
		}
	}
	return h
}

// falseDiscovery returns, parallel to the logarithms of p-values, those of the q-values of Y. Benjamini and Y. Hochberg, "Controlling the false discovery rate" (1995): of all
// that has a q-value of at most 0.05, one in twenty is expected to be there by chance.
func falseDiscovery(logP []float64) []float64 {
	order := make([]int, len(logP))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return cmp.Compare(logP[i], logP[j]) })
	q := make([]float64, len(logP))
	least := 0.0
	for rank := len(order); rank > 0; rank-- {
		i := order[rank-1]
		least = math.Min(least, logP[i]+math.Log(float64(len(order))/float64(rank)))
		q[i] = least
	}
	return q
}
