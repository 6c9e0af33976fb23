package catalog

import (
	"strconv"
	"strings"
)

// dialect is what differs between the databases.
type dialect struct {
	name     string
	numbered bool   // placeholders are $1, $2, … instead of ?
	now      string // an expression: the database's clock in Unix milliseconds
	// rowless says that CREATE TABLE takes WITHOUT ROWID, which keeps rows in the order of their key. Others do so, or have no use for it.
	rowless bool
	// check returns rows of one text column that say what is wrong with the database itself, or the word ok.
	check []string
}

var sqlite = dialect{
	name:    "sqlite",
	now:     "CAST(unixepoch('subsec') * 1000 AS BIGINT)",
	rowless: true,
	check: []string{
		"PRAGMA integrity_check",
		`SELECT 'row ' || COALESCE(rowid, 0) || ' of ' || "table" || ' refers to nothing in ' || parent FROM pragma_foreign_key_check`,
	},
}

// sql returns query as the database wants it: written with ? for each argument and NOW() for the clock.
func (d *dialect) sql(query string) string {
	query = strings.ReplaceAll(query, "NOW()", d.now)
	if !d.rowless {
		query = strings.ReplaceAll(query, " WITHOUT ROWID", "")
	}
	if !d.numbered {
		return query
	}
	var b strings.Builder
	n := 0
	for _, c := range []byte(query) {
		if c != '?' {
			b.WriteByte(c)
			continue
		}
		n++
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(n))
	}
	return b.String()
}

// marks returns n placeholders with commas.
func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }
