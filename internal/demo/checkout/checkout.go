// Package checkout is the demo's second service: it has no agent and serves plain net/http/pprof.
//
// It prices orders. Its second version is the same code with another pricing.go: the build tag checkout_v2 selects the file
// whose price rules are matched by regular expressions that are compiled for every line of every order.
// Standard library only: the demo builds the second version from the sources embedded here.
package checkout

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/pprof"
	"slices"
)

// Order is what a customer buys.
type Order struct {
	Customer string `json:"customer"`
	Lines    []Line `json:"lines"`
}

// Line is one article of an order; Price is in cents for one piece.
type Line struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
	Price    int    `json:"price"`
}

// Receipt is the answer to an order. Total is in cents.
type Receipt struct {
	ID      string `json:"id"`
	Version string `json:"version"`
	Lines   []Line `json:"lines"`
	Total   int    `json:"total"`
}

// Handler returns the service: POST /order and /debug/pprof/.
func Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /order", order)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	return mux
}

func order(w http.ResponseWriter, r *http.Request) {
	var o Order
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&o); err != nil {
		http.Error(w, fmt.Sprintf("read order: %v", err), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(settle(o))
}

// settle prices the lines, dearest first, and seals the receipt.
func settle(o Order) Receipt {
	total := 0
	for i := range o.Lines {
		o.Lines[i].Price = price(o.Lines[i])
		total += o.Lines[i].Price * o.Lines[i].Quantity
	}
	slices.SortFunc(o.Lines, func(a, b Line) int {
		return cmp.Or(cmp.Compare(b.Price, a.Price), cmp.Compare(a.SKU, b.SKU))
	})
	return Receipt{ID: seal(o), Version: version, Lines: o.Lines, Total: total}
}

// seal hashes the order many times over, as a signature would.
func seal(o Order) string {
	data, _ := json.Marshal(o) // strings and ints: cannot fail
	sum := sha256.Sum256(data)
	for range 800 {
		sum = sha256.Sum256(append(sum[:], data[:min(len(data), 256)]...))
	}
	return hex.EncodeToString(sum[:8])
}

// price returns the price of one piece of l after its discount.
func price(l Line) int { return l.Price - l.Price*discount(l.SKU)/100 }
