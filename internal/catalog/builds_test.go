package catalog

import (
	"errors"
	"path/filepath"
	"reflect"
	"testing"
)

const tinyInfo = "go\tgo1.25.1\npath\texample.com/cart/cmd/cart\nmod\texample.com/cart\tv1.2.0\t\ndep\tgolang.org/x/text\tv0.3.0\th1:x=\n" +
	"dep\tgithub.com/a/b\tv1.0.0\n=>\tgithub.com/c/b\tv1.0.1\th1:y=\ndep\tgithub.com/a/local\tv1.0.0\n=>\t./local\t\t\nbuild\tGOOS=linux\n"

func TestModulesOfBuilds(t *testing.T) {
	db := open(t)
	must(t, db.PutBuilds(t.Context(), []Build{{ID: "b1", Info: tinyInfo, FirstSeen: 1}, {ID: "b2", Info: "nonsense", FirstSeen: 2}, {ID: "b3", FirstSeen: 3}}))
	for _, tt := range []struct {
		path string
		want []BuildModule
	}{
		{"example.com/cart", []BuildModule{{Build: "b1", Path: "example.com/cart", Version: "v1.2.0", Main: true}}},
		{"golang.org/x/text", []BuildModule{{Build: "b1", Path: "golang.org/x/text", Version: "v0.3.0"}}},
		{"github.com/c/b", []BuildModule{{Build: "b1", Path: "github.com/c/b", Version: "v1.0.1", Declared: "github.com/a/b", DeclaredVersion: "v1.0.0"}}},
		{"github.com/a/b", []BuildModule{{Build: "b1", Path: "github.com/c/b", Version: "v1.0.1", Declared: "github.com/a/b", DeclaredVersion: "v1.0.0"}}},
		{"github.com/a/local", []BuildModule{{Build: "b1", Path: "github.com/a/local", Declared: "github.com/a/local", DeclaredVersion: "v1.0.0"}}},
		{"golang.org/x/tex", nil},
	} {
		got, err := db.BuildsWith(t.Context(), tt.path)
		must(t, err)
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.path, got, tt.want)
		}
	}
	heads, err := db.BuildHeads(t.Context())
	must(t, err)
	if len(heads) != 3 || heads[0].ID != "b1" || !heads[0].Known || heads[0].Info != "" || heads[2].Known {
		t.Errorf("heads %+v", heads)
	}
	all, err := db.BuildsWith(t.Context(), "")
	must(t, err)
	if len(all) != 4 {
		t.Errorf("%d modules in all, want 4", len(all))
	}
}

// TestABuildLearns: a process knows its build's id, who has the file knows the rest.
func TestABuildLearns(t *testing.T) {
	db := open(t)
	for _, b := range []Build{{ID: "b1", GNUBuildID: "b1", FirstSeen: 10}, {ID: "b1", Info: tinyInfo, Module: "example.com/cart", GoVersion: "go1.25.1", Size: 7, FirstSeen: 20},
		{ID: "b1", Info: "other", Size: 8, Stripped: "yes", FirstSeen: 5}} {
		must(t, db.PutBuilds(t.Context(), []Build{b}))
	}
	got, err := db.Build(t.Context(), "b1")
	must(t, err)
	if want := (Build{ID: "b1", GNUBuildID: "b1", GoVersion: "go1.25.1", Module: "example.com/cart", Info: tinyInfo, FirstSeen: 10, Size: 7, Stripped: "yes"}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if with, err := db.BuildsWith(t.Context(), "golang.org/x/text"); err != nil || len(with) != 1 {
		t.Errorf("%v, %v", with, err)
	}
}

func TestBuildUses(t *testing.T) {
	db := open(t)
	now, err := db.Now(t.Context())
	must(t, err)
	ms := now.UnixMilli()
	p := func(instance, service, build, version, state string, ago int64) Process {
		return Process{Instance: instance, Service: service, BuildID: build, Version: version, State: state, FirstSeen: ms - ago - 5, LastSeen: ms - ago}
	}
	must(t, db.PutProcesses(t.Context(), []Process{p("a", "cart", "aa11", "v1", "running", 0), p("b", "cart", "aa11", "v1", "running", 100), p("c", "cart", "aa22", "v2", "exited", 0),
		p("d", "pay", "aa11", "", "running", 3_600_000), p("e", "pay", "", "", "running", 0)}))
	must(t, db.PutBuilds(t.Context(), []Build{{ID: "aa33"}}))
	got, err := db.BuildUses(t.Context(), "", ms-10_000, 10)
	must(t, err)
	want := []BuildUse{{Service: "cart", Build: "aa22", Version: "v2", Processes: 1, First: ms - 5, Last: ms}, {Service: "cart", Build: "aa11", Version: "v1", Processes: 2, Running: 2, First: ms - 105, Last: ms}}
	if len(got) != 2 || got[0].Running+got[1].Running != 2 {
		t.Errorf("%+v, want %+v", got, want)
	}
	got, err = db.BuildUses(t.Context(), "aa11", 0, 10)
	must(t, err)
	if len(got) != 2 || got[1] != (BuildUse{Service: "pay", Build: "aa11", Processes: 1, First: ms - 3_600_005, Last: ms - 3_600_000}) {
		t.Errorf("%+v", got)
	}
	ids, err := db.BuildIDs(t.Context(), "aa", 10)
	must(t, err)
	if !reflect.DeepEqual(ids, []string{"aa11", "aa22", "aa33"}) {
		t.Errorf("ids %q", ids)
	}
	if _, err := db.Build(t.Context(), "aa22"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a build of which only the id is known: %v", err)
	}
}

// TestModulesOfAnEarlierRelease: builds that were stored before there were modules get them when the catalogue is opened.
func TestModulesOfAnEarlierRelease(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	old := atSchema(t, path, 4)
	_, err := old.w.Exec(`INSERT INTO builds (id, go_build_id, gnu_build_id, go_version, module, version, info, first_seen) VALUES ('b1', '', 'b1', '', '', '', ?, 1)`, tinyInfo)
	must(t, err)
	must(t, old.Close())
	db := openAt(t, path)
	if with, err := db.BuildsWith(t.Context(), "golang.org/x/text"); err != nil || len(with) != 1 {
		t.Errorf("%v, %v", with, err)
	}
}

// TestABuildToldWithAProcess: who only sees a process tells of its binary all the same.
func TestABuildToldWithAProcess(t *testing.T) {
	db := open(t)
	must(t, db.PutProcesses(t.Context(), []Process{{Instance: "i", Service: "cart", BuildID: "b1", LastSeen: 5, Build: &Build{ID: "b1", Info: tinyInfo, Size: 9}}}))
	b, err := db.Build(t.Context(), "b1")
	must(t, err)
	p, err := db.Process(t.Context(), "i")
	must(t, err)
	if b.Size != 9 || p.BuildID != "b1" || p.Build != nil {
		t.Errorf("build %+v, process %+v", b, p)
	}
}

func TestModulesAndConditionsGoWithTheirProcesses(t *testing.T) {
	db := open(t)
	must(t, db.PutProcesses(t.Context(), []Process{
		{Instance: "i", Service: "cart", BuildID: "b1", FirstSeen: 5, LastSeen: 5, Conditions: map[string]string{"args": "-user bob"}, Build: &Build{ID: "b1", Info: tinyInfo, FirstSeen: 5}},
		{Instance: "k", Service: "pay", BuildID: "b2", FirstSeen: 5, LastSeen: 5, Conditions: map[string]string{"args": "serve"}, Build: &Build{ID: "b2", Info: tinyInfo, FirstSeen: 5}},
	}))
	_, err := db.FinishDeletion(t.Context(), Deletion{ID: "d", Service: "cart", Start: 0, End: 100}, 100)
	must(t, err)
	for table, want := range map[string]int{"build_modules": 4, "conditions": 1, "turnover": 1, "builds": 1} {
		var n int
		must(t, db.w.QueryRow(`SELECT COUNT(*) FROM `+table).Scan(&n))
		if n != want {
			t.Errorf("%d rows in %s, want %d", n, table, want)
		}
	}
}

func TestSalvagedBuildsHaveModules(t *testing.T) {
	path := filepath.Join(t.TempDir(), "old.db")
	old := openAt(t, path)
	must(t, old.PutBuilds(t.Context(), []Build{{ID: "b1", Info: tinyInfo}}))
	must(t, old.Close())
	db := open(t)
	_, err := db.Salvage(t.Context(), path)
	must(t, err)
	if with, err := db.BuildsWith(t.Context(), "golang.org/x/text"); err != nil || len(with) != 1 {
		t.Errorf("%v, %v", with, err)
	}
}
