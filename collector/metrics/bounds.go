package metrics

import (
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

// The bounds of what one sender or reader can have the database hold or do.
const (
	maxSeriesBytes  = 64 << 10 // of the labels of one series
	meanSeriesBytes = 2 << 10  // of the labels of a series, on average: all that are alive have max_series times this
	maxBuckets      = 10_000   // spans, buckets and bounds of one histogram: real ones have some hundreds, and PromQL adds two of them in quadratic time, which nothing interrupts

	maxExprBytes = 4 << 10 // of an expression, without what stands in quotes
	maxExprDepth = 200     // brackets in brackets

	subqueryStep = time.Minute // of a subquery that says none
)

// isTooWide reports whether a histogram, one of the two, has more than maxBuckets.
func isTooWide(h *histogram.Histogram, fh *histogram.FloatHistogram) bool {
	if h != nil {
		return len(h.PositiveSpans)+len(h.NegativeSpans)+len(h.PositiveBuckets)+len(h.NegativeBuckets)+len(h.CustomValues) > maxBuckets
	}
	return fh != nil && len(fh.PositiveSpans)+len(fh.NegativeSpans)+len(fh.PositiveBuckets)+len(fh.NegativeBuckets)+len(fh.CustomValues) > maxBuckets
}

// boundedParser refuses expressions that are nested so deeply that walking through them takes all memory: what is done with one of depth n takes memory by the square of n, before any of the
// engine's limits holds.
type boundedParser struct{ parser.Parser }

// ParseExpr implements parser.Parser.
func (p boundedParser) ParseExpr(expr string) (parser.Expr, error) {
	code, depth := sizeOfExpr(expr)
	switch {
	case code > maxExprBytes:
		return nil, fmt.Errorf("the expression has %d bytes besides what stands in quotes (max_expression_bytes is %d)", code, maxExprBytes)
	case depth > maxExprDepth:
		return nil, fmt.Errorf("brackets stand %d deep (max_expression_depth is %d)", depth, maxExprDepth)
	}
	return p.Parser.ParseExpr(expr)
}

// sizeOfExpr returns how many bytes stand outside of quotes and comments, and how deep the brackets among them do.
func sizeOfExpr(expr string) (code, deepest int) {
	depth := 0
	for i := 0; i < len(expr); i++ {
		switch c := expr[i]; c {
		case '"', '\'', '`':
			i += quoted(expr[i+1:], c)
		case '#':
			end := strings.IndexByte(expr[i:], '\n')
			if end < 0 {
				return code, deepest
			}
			i += end
		case '(', '[', '{':
			depth++
			deepest = max(deepest, depth)
			code++
		case ')', ']', '}':
			depth--
			code++
		case ' ', '\t', '\n', '\r':
		default:
			code++
		}
	}
	return code, deepest
}

// quoted returns the length of what follows a quote, the closing one included.
func quoted(s string, quote byte) int {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == quote:
			return i + 1
		case s[i] == '\\' && quote != '`':
			i++
		}
	}
	return len(s)
}

// stepsOf returns the most steps that a subquery of q has. The engine takes memory for all of them before it looks at the first.
func stepsOf(q promql.Query) float64 {
	stmt, ok := q.Statement().(*parser.EvalStmt)
	if !ok {
		return 0
	}
	most := 0.0
	parser.Inspect(stmt.Expr, func(n parser.Node, path []parser.Node) error {
		sub, ok := n.(*parser.SubqueryExpr)
		if !ok {
			return nil
		}
		span := stmt.End.Sub(stmt.Start).Seconds() + sub.Range.Seconds()
		for _, outer := range path {
			if o, ok := outer.(*parser.SubqueryExpr); ok {
				span += o.Range.Seconds()
			}
		}
		step := sub.Step
		if step <= 0 {
			step = subqueryStep
		}
		most = max(most, span/step.Seconds())
		return nil
	})
	return most
}
