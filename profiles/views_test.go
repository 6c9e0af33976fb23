package profiles

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
)

var update = flag.Bool("update", false, "write the golden files from what the code gives")

// golden compares got with testdata/name.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is out of date (go test -update writes it):\n%s", file, got)
	}
}

func goldenJSON(t *testing.T, name string, v any) {
	t.Helper()
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, name, append(b, '\n'))
}

var before = map[string]int64{
	"main.main;shop.example/cart.Add;runtime.mallocgc":                     40,
	"main.main;shop.example/cart.Add":                                      10,
	"main.main;encoding/json.Marshal+encoding/json.value;runtime.mallocgc": 30,
	"main.main;main.walk;main.walk;main.walk":                              15,
	"0x4010": 5,
}

var after = map[string]int64{
	"main.main;shop.example/cart.Add;runtime.mallocgc": 90,
	"main.main;main.walk;main.walk":                    7,
	"main.main;github.com/x/y.(*T).Do[go.shape.int]":   3,
}

func TestFlame(t *testing.T) {
	goldenJSON(t, "flame.json", NewFlame(testStacks("cpu", before), nil, FlameOptions{OwnModule: "shop.example/cart"}))
}

func TestFlameDiff(t *testing.T) {
	goldenJSON(t, "flame_diff.json", NewFlame(testStacks("cpu", after), testStacks("cpu", before), FlameOptions{OwnModule: "shop.example/cart"}))
}

func TestFlameCapped(t *testing.T) {
	goldenJSON(t, "flame_capped.json", NewFlame(testStacks("cpu", before), nil, FlameOptions{MaxNodes: 6}))
}

func TestTop(t *testing.T) {
	goldenJSON(t, "top.json", NewTop(testStacks("cpu", before), nil, TopOptions{}))
}

func TestTopDiff(t *testing.T) {
	goldenJSON(t, "top_diff.json", NewTop(testStacks("cpu", after), testStacks("cpu", before), TopOptions{Limit: 4}))
}

func TestFolded(t *testing.T) {
	stacks := maps.Clone(before)
	s := testStacks("cpu", stacks)
	// A name with the separator, and samples without a stack.
	s.Symbols.Strings[slices.Index(s.Symbols.Strings, "runtime.mallocgc")] = "main.f[go.shape.struct { a int; b int }]"
	s.IDs, s.Values = slices.Insert(s.IDs, 0, 0), slices.Insert(s.Values, 0, 2)
	var b bytes.Buffer
	if err := WriteFolded(&b, s); err != nil {
		t.Fatal(err)
	}
	golden(t, "folded.txt", b.Bytes())
}

func TestViewsOfNothing(t *testing.T) {
	empty := &Stacks{Type: Type{Profile: "cpu", Sample: "cpu"}, Symbols: NewSymbols()}
	for _, base := range []*Stacks{nil, empty, testStacks("cpu", before)} {
		f := NewFlame(empty, base, FlameOptions{})
		if f.Total != 0 || f.Names[0] != "total" || len(f.Name) != f.Nodes {
			t.Errorf("%+v", f)
		}
		NewTop(empty, base, TopOptions{})
	}
	var b bytes.Buffer
	if err := WriteFolded(&b, empty); err != nil || b.Len() != 0 {
		t.Errorf("%q, %v", b.String(), err)
	}
}

// checkFlame checks what the layout promises.
func checkFlame(f *Flame, maxNodes int) error {
	n := f.Nodes
	if n > maxNodes || len(f.Name) != n || len(f.Depth) != n || len(f.Value) != n || len(f.Self) != n || f.Depth[0] != 0 || f.Value[0] != f.Total {
		return fmt.Errorf("%d nodes of at most %d, columns of %d %d %d %d", n, maxNodes, len(f.Name), len(f.Depth), len(f.Value), len(f.Self))
	}
	sum := slices.Clone(f.Self)
	last := map[uint32]int{0: 0} // the open node of each depth
	sibling := map[uint32]string{}
	for i := 1; i < n; i++ {
		d := f.Depth[i]
		if d == 0 || d > f.Depth[i-1]+1 {
			return fmt.Errorf("node %d has the depth %d after %d", i, d, f.Depth[i-1])
		}
		if d <= f.Depth[i-1] {
			if name := f.Names[f.Name[i]]; sibling[d] >= name {
				return fmt.Errorf("node %d, %s, follows %s", i, name, sibling[d])
			}
		}
		last[d], sibling[d] = i, f.Names[f.Name[i]]
		for up := int(d) - 1; up >= 0; up-- {
			sum[last[uint32(up)]] += f.Self[i]
		}
	}
	if !slices.Equal(sum, f.Value) {
		return fmt.Errorf("values are not self plus children")
	}
	return nil
}

func TestFlameKeepsItsPromisesOnRandomTrees(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		stacks := map[string]int64{}
		for range 1 + r.IntN(60) {
			frames := make([]string, 1+r.IntN(6))
			for i := range frames {
				frames[i] = "main.f" + string(rune('a'+r.IntN(5)))
			}
			stacks[strings.Join(frames, ";")] = 1 + r.Int64N(1000)
		}
		s := testStacks("cpu", stacks)
		whole := NewFlame(s, nil, FlameOptions{})
		for _, limit := range []int{2, 3, 5, 10, 50} {
			f := NewFlame(s, nil, FlameOptions{MaxNodes: limit})
			if err := checkFlame(f, limit); err != nil {
				t.Fatalf("limit %d of %v: %v", limit, stacks, err)
			}
			others := 0
			for i, name := range f.Name {
				if f.Names[name] == OtherName {
					others++
					if f.Value[i] != f.Self[i] || f.Kinds[name] != KindOther {
						t.Fatalf("an (other) with children or of kind %q", f.Kinds[name])
					}
				}
			}
			if f.Total != whole.Total || f.Nodes-others+f.Dropped != whole.Nodes {
				t.Fatalf("limit %d: total %d of %d, %d nodes, %d of them (other), %d dropped, of %d", limit, f.Total, whole.Total, f.Nodes, others, f.Dropped, whole.Nodes)
			}
		}
	}
}

// googleFunctions adds up values of column by function: self of the leaf, total once per sample.
func googleFunctions(p *profile.Profile, column int, self, total map[string]int64) {
	for _, s := range p.Sample {
		v := s.Value[column]
		seen := map[string]bool{}
		for i, l := range s.Location {
			for j, ln := range l.Line {
				name := ln.Function.Name
				if i == 0 && j == 0 {
					self[name] += v
				}
				if !seen[name] {
					seen[name] = true
					total[name] += v
				}
			}
		}
	}
}

// TestTopAgreesWithGooglePprofOnTheCorpus compares self and total of every function and sample type, merged over each type of every service, and checks the flame graph of the same stacks.
func TestTopAgreesWithGooglePprofOnTheCorpus(t *testing.T) {
	files, data := readCorpus(t, 4)
	groups := map[string][]int{}
	for i, f := range files {
		groups[f.Service+"/"+f.Type] = append(groups[f.Service+"/"+f.Type], i)
	}
	for name, members := range groups {
		_, typ, _ := strings.Cut(name, "/")
		var profiles []*Profile
		var refs []*profile.Profile
		for _, i := range members {
			p, err := Parse(data[i], Limits{})
			if err != nil {
				t.Fatal(err)
			}
			ref, err := profile.ParseData(data[i])
			if err != nil {
				t.Fatal(err)
			}
			profiles, refs = append(profiles, p), append(refs, ref)
		}
		for column, vt := range profiles[0].SampleTypes {
			b := NewBuilder(Type{Profile: typ, Sample: vt.Type}, 0, 1000)
			self, total := map[string]int64{}, map[string]int64{}
			for i, p := range profiles {
				if err := b.Add(p, column, 1000); err != nil {
					t.Fatal(err)
				}
				googleFunctions(refs[i], column, self, total)
			}
			s := b.Stacks()
			if err := checkFlame(NewFlame(s, nil, FlameOptions{MaxNodes: 500}), 500); err != nil {
				t.Errorf("%s %s: %v", name, vt.Type, err)
			}
			gotSelf, gotTotal := map[string]int64{}, map[string]int64{}
			for _, row := range NewTop(s, nil, TopOptions{Limit: -1}).Rows {
				gotSelf[row.Function], gotTotal[row.Function] = row.Self, row.Total
			}
			for _, m := range []map[string]int64{self, total, gotSelf, gotTotal} {
				maps.DeleteFunc(m, func(_ string, v int64) bool { return v == 0 })
			}
			if !maps.Equal(self, gotSelf) || !maps.Equal(total, gotTotal) {
				t.Errorf("%s %s: functions differ from google/pprof's", name, vt.Type)
			}
		}
	}
}

func TestUnknownFramesNameBinaryAndBuild(t *testing.T) {
	p := testProfile([]ValueType{{"cpu", "nanoseconds"}}, map[string][]int64{"0x1": {5}})
	p.Mappings[0].Offset = 0x1000
	p.Locations = append(p.Locations, Location{Address: 0x77}, Location{Mapping: 2, Address: 0x77})
	p.Mappings = append(p.Mappings, Mapping{BuildID: "b2"})
	p.LocationIDs = append(p.LocationIDs, 1, 2)
	p.Samples[0].Locations.Hi = 3
	b := NewBuilder(Type{Profile: "cpu", Sample: "cpu"}, 0, 1)
	if err := b.Add(p, 0, 0); err != nil {
		t.Fatal(err)
	}
	f := NewFlame(b.Stacks(), nil, FlameOptions{})
	if got, want := f.Names[1:], []string{"[?+0x77]", "[0x77]", "[app+0x1010]"}; !slices.Equal(got, want) {
		t.Errorf("names %q, want %q", got, want)
	}
	if got, want := f.Files[1:], []string{" (build id b2)", "", "/bin/app (build id b1)"}; !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
}

func TestFunctionKind(t *testing.T) {
	own := []string{"example.com/shop", "", "cart"}
	for name, want := range map[string]string{
		"main.main":                                          KindOwn,
		"main.F[example.com/other.T]":                        KindOwn,
		"example.com/shop.Run":                               KindOwn,
		"example.com/shop/internal/db.(*DB).Query":           KindOwn,
		"example.com/shopping.Run":                           KindDep,
		"cart/internal.Do":                                   KindOwn,
		"example.com/x/y.(*T).M.func1":                       KindDep,
		"gopkg.in/yaml%2ev3.Unmarshal":                       KindDep,
		"k8s.io/client-go/tools/cache.(*Reflector).Run":      KindDep,
		"net/http.(*conn).serve":                             KindStd,
		"slices.SortFunc[go.shape.[]string,go.shape.string]": KindStd,
		"vendor/golang.org/x/net/http2.Foo":                  KindStd,
		"internal/poll.(*FD).Read":                           KindStd,
		"runtime/pprof.StartCPUProfile":                      KindStd,
		"runtime/debug.Stack":                                KindStd,
		"runtime.mallocgc":                                   KindRuntime,
		"runtime.main.func2":                                 KindRuntime,
		"runtime/internal/syscall.Syscall6":                  KindRuntime,
		"internal/runtime/maps.(*Map).Get":                   KindRuntime,
		"aeshashbody":                                        KindRuntime,
		"type:.eq.example.com/x.T":                           KindRuntime,
		"malloc":                                             KindOther,
		"[libc.so.6+0x1234]":                                 KindOther,
		"std::vector<int>::push_back(int)":                   KindOther,
		"":                                                   KindOther,
	} {
		if got := FunctionKind(name, own); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}
