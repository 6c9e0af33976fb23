package catalog

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// putConditions stores what a process was started with, once for all that were started so, and returns its id, "" for nothing.
func (t *tx) putConditions(conditions map[string]string) (id string, err error) {
	if len(conditions) == 0 {
		return "", nil
	}
	text, err := json.Marshal(conditions) // sorted by key
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	id = hex.EncodeToString(sum[:10])
	var found string
	if t.row(`SELECT id FROM conditions WHERE id = ?`, []any{id}, &found) == nil {
		return id, nil
	}
	_, err = t.exec(`INSERT INTO conditions (id, text) VALUES (?, ?) ON CONFLICT (id) DO NOTHING`, id, string(text))
	return id, err
}

func readConditions(text string) (conditions map[string]string, err error) {
	if text != "" {
		err = json.Unmarshal([]byte(text), &conditions)
	}
	return conditions, err
}

// traits are conditions one by one: in place of args each flag (flag_NAME) and each other argument (arg_N).
type traits map[string]string

func traitsOf(conditions map[string]string) traits {
	ts := traits{}
	for key, value := range conditions {
		if key != "args" {
			ts[key] = value
		}
	}
	n := 0
	words := splitArgs(conditions["args"])
	for i := 0; i < len(words); i++ {
		name, isFlag := strings.CutPrefix(words[i], "-")
		if !isFlag || name == "" || name == "-" {
			n++
			ts["arg_"+strconv.Itoa(n)] = words[i]
			continue
		}
		name, value, hasValue := strings.Cut(strings.TrimPrefix(name, "-"), "=")
		if !hasValue && i+1 < len(words) && !strings.HasPrefix(words[i+1], "-") {
			i++ // of a flag without a value it is an argument, which is no worse to compare under this name
			value = words[i]
		}
		key := "flag_" + name
		if have, twice := ts[key]; twice {
			value = have + " " + value
		}
		ts[key] = value
	}
	return ts
}

// maxArgs bounds the arguments that are compared, in bytes: gatherers cut them sooner.
const maxArgs = 8 << 10

// splitArgs takes the condition args apart: words with a space between, those with a space, a quote or nothing in them quoted as in Go.
// No more than maxArgs bytes are read.
func splitArgs(text string) (words []string) {
	text = text[:min(len(text), maxArgs)]
	for {
		text = strings.TrimLeft(text, " ")
		if text == "" {
			return words
		}
		if q, err := strconv.QuotedPrefix(text); err == nil && text[0] == '"' {
			word, err := strconv.Unquote(q)
			if err == nil {
				words, text = append(words, word), text[len(q):]
				continue
			}
		}
		word, rest, _ := strings.Cut(text, " ")
		words, text = append(words, word), rest
	}
}

// JoinArgs returns the condition args of a command line without the name of the program.
func JoinArgs(words []string) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteByte(' ')
		}
		if w == "" || strings.ContainsAny(w, " \"") || strconv.Quote(w) != `"`+w+`"` {
			w = strconv.Quote(w)
		}
		b.WriteString(w)
	}
	return b.String()
}

// difference is one trait that is not as it was; "" where it is not set.
type difference struct{ key, from, to string }

// fromInside reports whether conditions are those that the process itself tells, which knows the values in force; from outside only what it was given is seen.
func (ts traits) fromInside() bool { _, ok := ts["gomaxprocs"]; return ok }

// compare returns what differs, by key. What only one of the two ways of looking sees is no difference.
func compare(from, to traits) (ds []difference) {
	alike := from.fromInside() == to.fromInside()
	keys := maps.Clone(from)
	maps.Copy(keys, to)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		was, before := from[key]
		is, now := to[key]
		args := strings.HasPrefix(key, "flag_") || strings.HasPrefix(key, "arg_") // an agent tells few of them
		if was == is || !alike && (args || !before || !now) {
			continue
		}
		ds = append(ds, difference{key, was, is})
	}
	has := func(key string) bool {
		return slices.ContainsFunc(ds, func(d difference) bool { return d.key == key })
	}
	// The variable says more than the value in force that follows from it.
	return slices.DeleteFunc(ds, func(d difference) bool {
		name, ok := variables[d.key]
		return ok && has("env_"+name)
	})
}

// variables are the environment's names of the values in force.
var variables = map[string]string{"gogc": "GOGC", "gomemlimit": "GOMEMLIMIT", "gomaxprocs": "GOMAXPROCS"}

// String says it as a reader at night wants it: "GOGC 100 → 50".
func (d difference) String() string {
	name, from, to := d.key, d.from, d.to
	switch {
	case strings.HasPrefix(name, "flag_"):
		name = "flag -" + name[len("flag_"):]
	case strings.HasPrefix(name, "arg_"):
		name = "argument " + name[len("arg_"):]
	case strings.HasPrefix(name, "env_"):
		name = name[len("env_"):]
	case variables[name] != "":
		name = variables[name]
	case name == "cgroup_cpu":
		name, from, to = "CPU limit", cmp.Or(from, "none"), cmp.Or(to, "none")
	case name == "cgroup_memory":
		name, from, to = "memory limit", bytesText(from), bytesText(to)
	case name == "node_kind":
		name = "node"
	}
	return fmt.Sprintf("%s %s → %s", name, cmp.Or(short(from), "(none)"), cmp.Or(short(to), "(none)"))
}

func bytesText(n string) string {
	v, err := strconv.ParseUint(n, 10, 64)
	switch {
	case n == "":
		return "none"
	case err != nil || v < 1<<20 || v%(1<<20) != 0:
		return n
	case v%(1<<30) == 0:
		return strconv.FormatUint(v>>30, 10) + " GiB"
	}
	return strconv.FormatUint(v>>20, 10) + " MiB"
}

// short cuts a value for a text of one line.
func short(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
