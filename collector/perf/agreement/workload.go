package agreement

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Shapes are the programs that are compared.
var Shapes = []string{"handler", "goroutines"}

// Workload is the program that is profiled: it works in the given shape, waits for a line with a duration on in, profiles itself for as long and writes
// the profile to out, after its length in 8 bytes. It returns at the end of in.
func Workload(shape string, in io.Reader, out io.Writer) error {
	work, ok := map[string]func(stop <-chan struct{}){"handler": handler, "goroutines": goroutines}[shape]
	if !ok {
		return fmt.Errorf("run workload: %q is none of %s", shape, strings.Join(Shapes, ", "))
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range max(runtime.GOMAXPROCS(0)/2, 1) {
		wg.Go(func() { work(stop) })
	}
	defer wg.Wait()
	defer close(stop)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		d, err := time.ParseDuration(lines.Text())
		if err != nil {
			return fmt.Errorf("run workload: %w", err)
		}
		var b bytes.Buffer
		if err := pprof.StartCPUProfile(&b); err != nil {
			return fmt.Errorf("run workload: %w", err)
		}
		time.Sleep(d)
		pprof.StopCPUProfile()
		if _, err := out.Write(binary.BigEndian.AppendUint64(nil, uint64(b.Len()))); err != nil {
			return fmt.Errorf("run workload: %w", err)
		}
		if _, err := out.Write(b.Bytes()); err != nil {
			return fmt.Errorf("run workload: %w", err)
		}
	}
	return nil
}

// order is what the handler is asked to sort and add up.
type order struct {
	ID    int               `json:"id"`
	Name  string            `json:"name"`
	Items []item            `json:"items"`
	Tags  map[string]string `json:"tags"`
}

type item struct {
	SKU   string  `json:"sku"`
	Count int     `json:"count"`
	Price float64 `json:"price"`
}

// handler decodes, sorts, looks up and encodes, as a service does for each request.
func handler(stop <-chan struct{}) {
	rnd := rand.New(rand.NewPCG(1, 2))
	o := order{ID: 7, Name: "an order", Tags: map[string]string{"region": "north", "channel": "web"}}
	for i := range 60 {
		o.Items = append(o.Items, item{SKU: "sku-" + strconv.Itoa(rnd.IntN(1000)), Count: i % 7, Price: rnd.Float64() * 100})
	}
	body, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	stock := map[string]int{}
	for {
		select {
		case <-stop:
			return
		default:
		}
		handle(body, stock, rnd)
	}
}

//go:noinline
func handle(body []byte, stock map[string]int, rnd *rand.Rand) {
	var o order
	if err := json.Unmarshal(body, &o); err != nil {
		panic(err)
	}
	total := price(&o)
	slices.SortFunc(o.Items, func(a, b item) int { return strings.Compare(a.SKU, b.SKU) })
	for _, it := range o.Items {
		stock[it.SKU] += it.Count
	}
	if rnd.IntN(100) == 0 {
		clear(stock)
	}
	o.Name = fmt.Sprintf("%s of %.2f", o.Name, total)
	if _, err := json.Marshal(&o); err != nil {
		panic(err)
	}
}

func price(o *order) (total float64) {
	for _, it := range o.Items {
		total += float64(it.Count) * it.Price
	}
	return total
}

// goroutines passes freshly allocated messages through channels between many goroutines.
func goroutines(stop <-chan struct{}) {
	type message struct {
		payload []byte
		reply   chan int
	}
	queue := make(chan message, 16)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for m := range queue {
				n := 0
				for _, c := range m.payload {
					n += int(c)
				}
				m.reply <- n
			}
		})
	}
	var senders sync.WaitGroup
	for i := range 16 {
		senders.Go(func() {
			for n := i; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				m := message{make([]byte, 256+n%1024), make(chan int, 1)}
				queue <- m
				<-m.reply
			}
		})
	}
	senders.Wait()
	close(queue)
	wg.Wait()
}
