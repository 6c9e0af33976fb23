package agent

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// broker is the part of the tests' collector that captures are asked of.
type broker struct {
	mu      sync.Mutex
	tasks   []task
	polls   int // that began
	open    int // that are held open
	claims  []claim
	grant   func(claim) granted // nil: "c1", granted
	results []result2
	order   []string // push, claim, result KIND
	refuse  func(w http.ResponseWriter, r *http.Request) bool
}

// result2 is a capture's result as it arrived.
type result2 struct {
	id, kind, instance, problem, contentType string
	body                                     []byte
	from, to                                 string
	length                                   int64
	broken                                   bool // the body broke off
}

func (b *broker) happened(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.order = append(b.order, what)
}

func (b *broker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	refuse := b.refuse
	b.mu.Unlock()
	if refuse != nil && refuse(w, r) {
		return
	}
	switch path := strings.TrimPrefix(r.URL.Path, "/api/v1/captures/"); {
	case path == "next":
		b.next(w, r)
	case path == "claim":
		var c claim
		if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		b.mu.Lock()
		b.claims = append(b.claims, c)
		b.order = append(b.order, "claim")
		g := granted{Granted: true, ID: "c1"}
		if b.grant != nil {
			g = b.grant(c)
		}
		b.mu.Unlock()
		_ = json.NewEncoder(w).Encode(g) // a client that went away is what some tests do
	default:
		body, err := io.ReadAll(r.Body)
		q := r.URL.Query()
		b.mu.Lock()
		b.results = append(b.results, result2{strings.TrimSuffix(path, "/result"), q.Get("kind"), q.Get("instance"), q.Get("error"),
			r.Header.Get("Content-Type"), body, q.Get("from"), q.Get("to"), r.ContentLength, err != nil})
		b.order = append(b.order, "result "+q.Get("kind"))
		b.mu.Unlock()
		_, _ = io.WriteString(w, `{"status":"ok"}`)
	}
}

// next holds the poll open until there are tasks, or as long as it was asked to.
func (b *broker) next(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Instances []string `json:"instances"`
		WaitMS    int64    `json:"wait_ms"`
	}
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil || len(q.Instances) != 1 {
		http.Error(w, "bad poll", http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	b.polls++
	b.open++
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.open--
		b.mu.Unlock()
	}()
	for end := time.Now().Add(time.Duration(q.WaitMS) * time.Millisecond); time.Now().Before(end); {
		b.mu.Lock()
		tasks := b.tasks
		b.tasks = nil
		b.mu.Unlock()
		if len(tasks) > 0 {
			_ = json.NewEncoder(w).Encode(map[string]any{"tasks": tasks})
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-time.After(2 * time.Millisecond):
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

func (b *broker) ask(tasks ...task) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tasks = append(b.tasks, tasks...)
}

func (b *broker) polled() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.polls
}

// got returns the results of a capture, and all claims.
func (b *broker) got(id string) (out []result2, claims []claim) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.results {
		if r.id == id {
			out = append(out, r)
		}
	}
	return out, slices.Clone(b.claims)
}

func (b *broker) history() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.order)
}
