package profiles

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestCallers(t *testing.T) {
	goldenJSON(t, "callers.json", NewCallers(testStacks("cpu", before), nil, "runtime.mallocgc", FlameOptions{OwnModule: "shop.example/cart"}))
}

func TestCallersOfRecursionInADiff(t *testing.T) {
	goldenJSON(t, "callers_diff.json", NewCallers(testStacks("cpu", after), testStacks("cpu", before), "main.walk", FlameOptions{}))
}

func TestCallersOfWhatIsNotThere(t *testing.T) {
	for _, base := range []*Stacks{nil, testStacks("cpu", before)} {
		c := NewCallers(testStacks("cpu", after), base, "main.gone", FlameOptions{})
		if c.Total != 0 || c.All != 100 || c.Callers.Nodes != 1 || c.Callees.Nodes != 1 || c.Callers.Names[0] != "main.gone" || (base == nil) != (c.BaseTotal == nil) {
			t.Errorf("%+v", c)
		}
	}
	if c := NewCallers(&Stacks{}, nil, "total", FlameOptions{}); c.Total != 0 || c.Callees.Nodes != 1 {
		t.Errorf("%+v", c)
	}
}

// flamePaths returns the self of every path below the root of f.
func flamePaths(f *Flame) map[string]int64 {
	out := map[string]int64{}
	var path []string
	for i, name := range f.Name {
		path = append(path[:f.Depth[i]], f.Names[name])
		if v := f.Self[i]; v != 0 {
			out[strings.Join(path, ";")] += v
		}
	}
	return out
}

// TestCallersAgreeWithANaiveReference cuts every stack of real profiles at the outermost call of a function, for functions from the most expensive to the cheapest.
func TestCallersAgreeWithANaiveReference(t *testing.T) {
	for name, s := range mergedCorpus(t, 25) {
		stacks := flatValues(s)
		rows := NewTop(s, nil, TopOptions{Limit: -1}).Rows
		for k := 0; k < len(rows); k += 1 + len(rows)/7 {
			f := rows[k].Function
			up, down := map[string]int64{}, map[string]int64{}
			for stack, v := range stacks {
				frames := strings.Split(stack, ";")
				at := slices.Index(frames, f)
				if at < 0 {
					continue
				}
				callers := slices.Clone(frames[:at+1])
				slices.Reverse(callers)
				up[strings.Join(callers, ";")] += v
				down[strings.Join(frames[at:], ";")] += v
			}
			for _, m := range []map[string]int64{up, down} {
				maps.DeleteFunc(m, func(_ string, v int64) bool { return v == 0 })
			}
			c := NewCallers(s, nil, f, FlameOptions{MaxNodes: MaxFlameNodes})
			if c.Total != rows[k].Total || c.Self != rows[k].Self || c.All != s.Total() || c.Callers.Value[0] != c.Total || c.Callees.Value[0] != c.Total {
				t.Errorf("%s, %s: total %d, self %d, roots of %d and %d; top has %d and %d", name, f, c.Total, c.Self, c.Callers.Value[0], c.Callees.Value[0], rows[k].Total, rows[k].Self)
			}
			if strings.Contains(f, "[") {
				continue // flatValues leaves frames without symbols out
			}
			if got := flamePaths(c.Callers); !maps.Equal(got, up) {
				t.Errorf("%s: %d ways to %s, want %d", name, len(got), f, len(up))
			}
			if got := flamePaths(c.Callees); !maps.Equal(got, down) {
				t.Errorf("%s: %d ways from %s, want %d", name, len(got), f, len(down))
			}
			if err := checkFlame(c.Callees, MaxFlameNodes); err != nil {
				t.Errorf("%s, %s: %v", name, f, err)
			}
		}
	}
}
