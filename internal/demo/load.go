package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/sonde-io/sonde/internal/demo/billing"
	"github.com/sonde-io/sonde/internal/demo/cart"
	"github.com/sonde-io/sonde/internal/demo/checkout"
)

// Load is a steady load on one service: one request at a time over loopback.
type Load struct {
	Rate  float64                          // requests per second, at most
	Share float64                          // share of the time that a request is under way, at most: what bounds the CPU on a slow machine
	Make  func(i int) (path string, v any) // the i-th request: POST of v as JSON

	sent, failed atomic.Int64
}

// Counts returns how many requests were answered with 200, and how many were not. Safe for concurrent use.
func (l *Load) Counts() (ok, failed int64) { return l.sent.Load() - l.failed.Load(), l.failed.Load() }

// Run sends requests to the address that addr returns until ctx is done; "" means that the service is not there right now.
func (l *Load) Run(ctx context.Context, addr func() string) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
	defer client.CloseIdleConnections()
	interval := time.Duration(float64(time.Second) / l.Rate)
	for i := 0; ; i++ {
		start := time.Now()
		if a := addr(); a != "" {
			l.sent.Add(1)
			if err := l.send(ctx, client, a, i); err != nil {
				l.failed.Add(1)
			}
		}
		took := time.Since(start)
		wait := max(interval, time.Duration(float64(took)/l.Share)) - took
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (l *Load) send(ctx context.Context, client *http.Client, addr string, i int) error {
	path, v := l.Make(i)
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode request %d: %w", i, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("POST %s: %s", path, resp.Status)
	}
	return nil
}

var kinds = []string{"book", "tool", "food", "toy", "lamp", "rope"}

func sku(i int) string { return fmt.Sprintf("%s-%d", kinds[i%len(kinds)], i%97) }

// CartLoad fills carts, which takes about a tenth of a core; every tenth gets a coupon.
func CartLoad() *Load {
	return &Load{Rate: 120, Share: 0.15, Make: func(i int) (string, any) {
		customer := i % 200 // whose cart holds the same 100 articles, again and again: the work per request does not grow
		items := make([]cart.Item, 100)
		for k := range items {
			items[k] = cart.Item{SKU: sku(customer*7 + k*13), Quantity: 1 + (i+k)%3, Price: 100 + (i*k)%900}
		}
		path := fmt.Sprintf("/cart/c%d", customer)
		if i%10 == 0 {
			path += "?coupon=spring"
		}
		return path, items
	}}
}

// CheckoutLoad places orders. Its share is wider than the others', so that the second version's slowness shows as CPU and not as fewer orders.
func CheckoutLoad() *Load {
	return &Load{Rate: 200, Share: 0.3, Make: func(i int) (string, any) {
		o := checkout.Order{Customer: fmt.Sprintf("customer %d", i%500), Lines: make([]checkout.Line, 20)}
		for k := range o.Lines {
			o.Lines[k] = checkout.Line{SKU: sku(i*11 + k*17), Quantity: 1 + k%4, Price: 100 + (i*k)%5000}
		}
		return "/order", o
	}}
}

// BillingLoad sends invoices.
func BillingLoad() *Load {
	return &Load{Rate: 130, Share: 0.12, Make: func(i int) (string, any) {
		in := billing.Invoice{Number: i, Name: fmt.Sprintf("customer %d", i%500), Items: make([]billing.Product, 60)}
		for k := range in.Items {
			in.Items[k] = billing.Product{Text: sku(i + k*29), Amount: 100 + (i*k)%90000}
		}
		return "/invoice", in
	}}
}
