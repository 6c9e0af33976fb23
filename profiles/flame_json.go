package profiles

import (
	"encoding/json"
	"strconv"
)

// AppendJSON appends f as json.Marshal writes it: the columns are tens of thousands of numbers, which take a general encoder longer than all the rest of a query.
func (f *Flame) AppendJSON(b []byte) []byte {
	b = appendMember(append(b, '{'), "type", f.Type)
	b = appendNumber(b, ",", "from", f.From)
	b = appendNumber(b, ",", "to", f.To)
	if f.BaseFrom != 0 {
		b = appendNumber(b, ",", "base_from", f.BaseFrom)
	}
	if f.BaseTo != 0 {
		b = appendNumber(b, ",", "base_to", f.BaseTo)
	}
	b = appendNumber(b, ",", "total", f.Total)
	if f.BaseTotal != nil {
		b = appendNumber(b, ",", "base_total", *f.BaseTotal)
	}
	b = appendStrings(b, "names", f.Names)
	b = appendStrings(b, "kinds", f.Kinds)
	b = appendStrings(b, "files", f.Files)
	b = appendNumbers(b, "name", f.Name)
	b = appendNumbers(b, "depth", f.Depth)
	b = appendNumbers(b, "value", f.Value)
	b = appendNumbers(b, "self", f.Self)
	if len(f.BaseValue) > 0 {
		b = appendNumbers(b, "base_value", f.BaseValue)
	}
	if len(f.BaseSelf) > 0 {
		b = appendNumbers(b, "base_self", f.BaseSelf)
	}
	b = appendNumber(b, ",", "nodes", int64(f.Nodes))
	b = appendNumber(b, ",", "dropped", int64(f.Dropped))
	b = appendMember(append(b, ','), "stats", f.Stats)
	if f.BaseStats != nil {
		b = appendMember(append(b, ','), "base_stats", f.BaseStats)
	}
	if f.Scale != nil {
		b = appendMember(append(b, ','), "scale", f.Scale)
	}
	return append(b, '}')
}

func appendKey(b []byte, sep, name string) []byte {
	b = append(b, sep...)
	b = append(b, '"')
	b = append(b, name...)
	return append(b, '"', ':')
}

// appendMember appends a member by way of the general encoder; v is a struct of strings, numbers and booleans, which it cannot refuse.
func appendMember(b []byte, name string, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return append(appendKey(b, "", name), text...)
}

func appendNumber(b []byte, sep, name string, v int64) []byte {
	return strconv.AppendInt(appendKey(b, sep, name), v, 10)
}

func appendNumbers[T uint32 | int64](b []byte, name string, vs []T) []byte {
	b = appendKey(b, ",", name)
	if vs == nil {
		return append(b, "null"...)
	}
	b = append(b, '[')
	for i, v := range vs {
		if i > 0 {
			b = append(b, ',')
		}
		if v >= 0 && v < 10 {
			b = append(b, byte('0'+v))
		} else {
			b = strconv.AppendInt(b, int64(v), 10)
		}
	}
	return append(b, ']')
}

func appendStrings(b []byte, name string, vs []string) []byte {
	b = appendKey(b, ",", name)
	if vs == nil {
		return append(b, "null"...)
	}
	b = append(b, '[')
	for i, v := range vs {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, v)
	}
	return append(b, ']')
}

// plainJSON says which bytes stand for themselves in a string as json.Marshal writes it.
var plainJSON = func() (plain [256]bool) {
	for c := ' '; c < 0x7f; c++ {
		plain[c] = c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
	}
	return plain
}()

func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if !plainJSON[s[i]] {
			text, err := json.Marshal(s)
			if err != nil {
				panic(err) // strings have no error
			}
			return append(b, text...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
