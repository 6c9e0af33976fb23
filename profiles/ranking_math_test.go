package profiles

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func near(got, want, relative float64) bool { return math.Abs(got-want) <= relative*math.Abs(want) }

// TestStudentAgreesWithKnownValues compares with the closed forms for 1, 2 and 4 degrees of freedom, with printed tables, and with the normal distribution that many degrees come near to.
func TestStudentAgreesWithKnownValues(t *testing.T) {
	for _, v := range []float64{1e-6, 0.01, 0.3, 1, 2, 3.5, 12, 1e3, 1e8} {
		one := 1 - 2/math.Pi*math.Atan(v)
		if v > 10 {
			one = 2 / math.Pi * math.Atan(1/v)
		}
		u := v / math.Sqrt(2+v*v)
		two := 2 / ((2 + v*v) * (1 + u)) // 1 - u without cancellation
		w := v * v / (4 + v*v)
		s := math.Sqrt(w)
		four := 1 - s*(1+(1-w)/2)
		for df, want := range map[float64]float64{1: one, 2: two, 4: four} {
			if df == 4 && v > 100 {
				continue // the closed form cancels there
			}
			if got := math.Exp(logStudent(v, df)); !near(got, want, 1e-9) {
				t.Errorf("t %g with %g degrees: p %g, want %g", v, df, got, want)
			}
		}
	}
	// Critical values of two-sided tests, as tables print them.
	for _, c := range []struct{ df, t, p float64 }{{1, 12.706, 0.05}, {5, 2.571, 0.05}, {10, 3.169, 0.01}, {29, 2.045, 0.05}, {30, 3.646, 0.001}, {120, 1.980, 0.05}} {
		if got := math.Exp(logStudent(c.t, c.df)); !near(got, c.p, 2e-3) {
			t.Errorf("t %g with %g degrees: p %g, tables say %g", c.t, c.df, got, c.p)
		}
		if logStudent(-c.t, c.df) != logStudent(c.t, c.df) {
			t.Errorf("t %g: the test is not two-sided", c.t)
		}
	}
	for _, v := range []float64{0.5, 1.96, 4, 8} {
		if got, want := math.Exp(logStudent(v, 1e7)), math.Erfc(v/math.Sqrt2); !near(got, want, 1e-3) {
			t.Errorf("t %g with many degrees: p %g, normal %g", v, got, want)
		}
	}
	// The tail of 1 degree is 2/(πt), and beyond what a float64 holds the order stays.
	if got, want := logStudent(1e200, 1), math.Log(2/math.Pi)-200*math.Ln10; math.IsInf(got, 0) || !near(got, want, 1e-9) {
		t.Errorf("far tail: ln p %g, want %g", got, want)
	}
	last := 0.0
	for _, v := range []float64{0, 1, 10, 100, 1e4, 1e8, 1e12} {
		got := logStudent(v, 60)
		if math.IsNaN(got) || math.IsInf(got, 0) || got > last || v > 0 && got == last {
			t.Errorf("t %g: ln p %g after %g", v, got, last)
		}
		last = got
	}
}

// TestWelchAgreesWithAWorkedExample uses Welch's test on the data of Student's sleep example as R prints it: t.test(extra ~ group): t = -1.8608, df = 17.776, p-value = 0.07939.
func TestWelchAgreesWithAWorkedExample(t *testing.T) {
	var a, b moments
	for _, v := range []float64{0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0, 2.0} {
		a.add(v)
	}
	for _, v := range []float64{1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4} {
		b.add(v)
	}
	tt, df, logP := welch(a, b, a.variance(), b.variance())
	if !near(tt, 1.8608, 1e-4) || !near(df, 17.776, 1e-4) || !near(math.Exp(logP), 0.07939, 1e-4) {
		t.Errorf("t %g, df %g, p %g", tt, df, math.Exp(logP))
	}
	var one moments
	one.add(5)
	if _, _, logP := welch(one, b, 0, b.variance()); logP != 0 {
		t.Errorf("one value against ten: ln p %g, want 0", logP)
	}
}

func TestMomentsWithZeros(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		var sparse, full moments
		n := 1 + rng.IntN(30)
		for range n {
			v := 0.0
			if rng.IntN(2) == 0 {
				v = 1e6 + rng.Float64()
				sparse.add(v)
			}
			full.add(v)
		}
		got := sparse.withZeros(float64(n))
		if got.n != full.n || !near(got.mean, full.mean, 1e-12) || math.Abs(got.m2-full.m2) > 1e-9*math.Abs(full.m2)+1e-3 {
			t.Fatalf("%+v, want %+v", got, full)
		}
	}
}

// TestFalseDiscovery compares with the definition: the smallest p·m/rank of all at least as large.
func TestFalseDiscovery(t *testing.T) {
	p := []float64{0.01, 0.04, 0.03, 0.005, 0.9, 1}
	logP := make([]float64, len(p))
	for i, v := range p {
		logP[i] = math.Log(v)
	}
	got := falseDiscovery(logP)
	sorted := slices.Sorted(slices.Values(p))
	for i, v := range p {
		want := 1.0
		for j, w := range sorted {
			if w >= v {
				want = min(want, w*float64(len(p))/float64(j+1))
			}
		}
		if !near(math.Exp(got[i]), want, 1e-12) {
			t.Errorf("p %g: q %g, want %g", v, math.Exp(got[i]), want)
		}
	}
}

func FuzzStudent(f *testing.F) {
	f.Add(1.0, 3.0)
	f.Add(1e-9, 1e9)
	f.Fuzz(func(t *testing.T, v, df float64) {
		if !(df >= 0.5 && df < 1e9) || math.IsNaN(v) || math.Abs(v) > 1e100 {
			return
		}
		got := logStudent(v, df)
		if math.IsNaN(got) || got > 0 || math.IsInf(got, 0) {
			t.Errorf("t %g with %g degrees: ln p %g", v, df, got)
		}
		if more := logStudent(math.Abs(v)*1.5, df); more > got+1e-9 {
			t.Errorf("t %g with %g degrees: ln p %g, but %g for a larger one", v, df, got, more)
		}
	})
}
