// Package billing is the demo's third service: neither an agent nor /debug/pprof, so Sonde sees it and says why it is not profiled.
//
// It renders invoices with text/template and hands back their compressed size and checksum.
package billing

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"net/http"
	"strings"
	"text/template"

	"github.com/sonde-io/sonde/internal/demo/service"
)

// Main runs the service on addr until it is told to stop.
func Main(addr string) error { return service.Main(addr, Handler()) }

// Invoice is what a customer has to pay. Amounts are in cents.
type Invoice struct {
	Number int       `json:"number"`
	Name   string    `json:"name"`
	Items  []Product `json:"items"`
}

// Product is one position of an invoice.
type Product struct {
	Text   string `json:"text"`
	Amount int    `json:"amount"`
}

// Sum returns the invoice's total in cents.
func (i Invoice) Sum() int {
	sum := 0
	for _, p := range i.Items {
		sum += p.Amount
	}
	return sum
}

var page = template.Must(template.New("invoice").Funcs(template.FuncMap{
	"upper": strings.ToUpper,
	"money": func(cents int) string { return fmt.Sprintf("%d.%02d", cents/100, cents%100) },
}).Parse(`INVOICE {{.Number}} FOR {{upper .Name}}
{{range $i, $p := .Items}}{{printf "%3d" $i}}  {{printf "%-40s" $p.Text}} {{money $p.Amount}}
{{end}}TOTAL {{money .Sum}}
`))

// Handler returns the service: POST /invoice.
func Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /invoice", invoice)
	return mux
}

func invoice(w http.ResponseWriter, r *http.Request) {
	var in Invoice
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&in); err != nil {
		http.Error(w, fmt.Sprintf("read invoice: %v", err), http.StatusBadRequest)
		return
	}
	size, sum, err := render(in)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"size": size, "crc32": sum, "total": in.Sum()})
}

// render returns the compressed size of the invoice's text and the text's checksum.
func render(in Invoice) (size int, sum uint32, err error) {
	var text, packed bytes.Buffer
	if err := page.Execute(&text, in); err != nil {
		return 0, 0, fmt.Errorf("render invoice %d: %w", in.Number, err)
	}
	zw := gzip.NewWriter(&packed)
	if _, err := zw.Write(text.Bytes()); err != nil {
		return 0, 0, fmt.Errorf("compress invoice %d: %w", in.Number, err)
	}
	if err := zw.Close(); err != nil {
		return 0, 0, fmt.Errorf("compress invoice %d: %w", in.Number, err)
	}
	return packed.Len(), crc32.ChecksumIEEE(text.Bytes()), nil
}
