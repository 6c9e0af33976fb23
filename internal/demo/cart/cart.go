// Package cart is the demo's first service: it carries Sonde's agent, and it leaks goroutines.
//
// It keeps shopping carts in memory. Every cart that gets a coupon starts a goroutine that waits for the coupon's withdrawal,
// which never comes: the leak that the demo ships on purpose, bounded by MaxLeaked.
package cart

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/sonde-io/sonde/agent"
	"github.com/sonde-io/sonde/internal/demo/service"
)

// MaxLeaked bounds the goroutines that the service leaks: at the demo's load it is reached after about a quarter of an hour.
const MaxLeaked = 10_000

// maxCarts bounds the memory: older carts make room.
const maxCarts = 2_000

// Main runs the service on addr until it is told to stop. The agent finds the collector by its environment.
func Main(addr string) error {
	defer agent.Start(agent.Config{Service: "cart"}).Close()
	return service.Main(addr, New())
}

// Item is one article in a cart; Price is in cents for one piece.
type Item struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
	Price    int    `json:"price"`
}

// Carts keeps the carts. Safe for concurrent use.
type Carts struct {
	mux *http.ServeMux

	mu     sync.Mutex
	carts  map[string]map[string]Item
	order  []string // ids, oldest first
	leaked int
}

// New returns a service without carts.
func New() *Carts {
	c := &Carts{mux: http.NewServeMux(), carts: make(map[string]map[string]Item)}
	c.mux.HandleFunc("POST /cart/{id}", c.add)
	c.mux.HandleFunc("GET /cart/{id}", c.show)
	return c
}

func (c *Carts) ServeHTTP(w http.ResponseWriter, r *http.Request) { c.mux.ServeHTTP(w, r) }

// Leaked returns the number of goroutines leaked so far.
func (c *Carts) Leaked() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaked
}

func (c *Carts) add(w http.ResponseWriter, r *http.Request) {
	var items []Item
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&items); err != nil {
		http.Error(w, fmt.Sprintf("read items: %v", err), http.StatusBadRequest)
		return
	}
	id := r.PathValue("id")
	c.mu.Lock()
	c.merge(id, items)
	if r.URL.Query().Get("coupon") != "" && c.leaked < MaxLeaked {
		c.leaked++
		go awaitWithdrawal(make(chan struct{}))
	}
	c.mu.Unlock()
	c.show(w, r)
}

// merge adds items to the cart id. The caller holds the lock.
func (c *Carts) merge(id string, items []Item) {
	cart := c.carts[id]
	if cart == nil {
		cart = make(map[string]Item)
		c.carts[id] = cart
		c.order = append(c.order, id)
		if len(c.order) > maxCarts {
			delete(c.carts, c.order[0])
			c.order = c.order[1:]
		}
	}
	for _, it := range items {
		it.Quantity += cart[it.SKU].Quantity
		cart[it.SKU] = it
	}
}

// awaitWithdrawal waits for a coupon to be withdrawn. Nobody keeps the other end of the channel.
func awaitWithdrawal(withdrawn <-chan struct{}) { <-withdrawn }

func (c *Carts) show(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	items := make([]Item, 0, len(c.carts[r.PathValue("id")]))
	for _, it := range c.carts[r.PathValue("id")] {
		items = append(items, it)
	}
	c.mu.Unlock()
	rank(items)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"items": items, "also_bought": recommend(items)})
}

// rank sorts items by what they cost together, dearest first.
func rank(items []Item) {
	slices.SortFunc(items, func(a, b Item) int {
		if d := b.Price*b.Quantity - a.Price*a.Quantity; d != 0 {
			return d
		}
		return strings.Compare(a.SKU, b.SKU)
	})
}

// recommend scores every pair of items by a hash and returns the five best.
func recommend(items []Item) []string {
	scores := make(map[string]uint32)
	for _, a := range items {
		for _, b := range items {
			h := fnv.New32a()
			_, _ = h.Write([]byte(a.SKU + "+" + b.SKU + strconv.Itoa(a.Quantity*b.Quantity)))
			scores[a.SKU] += h.Sum32() % 1000
		}
	}
	names := make([]string, 0, len(scores))
	for name := range scores {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := int(scores[b]) - int(scores[a]); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return names[:min(len(names), 5)]
}
