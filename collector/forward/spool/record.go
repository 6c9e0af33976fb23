package spool

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Push is one push to keep. Its bytes are not kept after Append.
type Push struct {
	Lane       uint8  // what is to stay in order has the same
	Start, End int64  // Unix ms, for the account of what was dropped
	Instance   string // "": of no process
	Hash       string // of the process object
	Service    string // "": that of the process
	Process    []byte // the process object; nil: known from before
	Meta       []byte
	Profiles   [][]byte // and the other parts that the meta object lists

	process *Process
}

// Process is a process object that pushes refer to.
type Process struct {
	Hash, Service string
	deflated      []byte
}

var inflaters = sync.Pool{New: func() any { return flate.NewReader(bytes.NewReader(nil)) }}

// maxProcess bounds a process object, in bytes.
const maxProcess = 4 << 20

// Raw returns the object's JSON.
func (p *Process) Raw() ([]byte, error) {
	r := inflaters.Get().(io.ReadCloser)
	defer inflaters.Put(r)
	err := r.(flate.Resetter).Reset(bytes.NewReader(p.deflated), nil)
	var raw []byte
	if err == nil {
		raw, err = io.ReadAll(io.LimitReader(r, maxProcess+1))
	}
	if err == nil && len(raw) > maxProcess {
		err = fmt.Errorf("more than %d bytes", maxProcess)
	}
	if err != nil {
		return nil, fmt.Errorf("read process object %s from spool: %w", p.Hash, err)
	}
	return raw, nil
}

func newProcess(hash, service string, raw []byte) (*Process, error) {
	if len(raw) > maxProcess {
		return nil, fmt.Errorf("process object of %d bytes, at most %d", len(raw), maxProcess)
	}
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	if err == nil {
		_, err = w.Write(raw)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("deflate process object: %w", err)
	}
	return &Process{Hash: hash, Service: service, deflated: b.Bytes()}, nil
}

func (p *Process) append(dst []byte, instance string) []byte {
	return append(appendSection(appendSection(appendSection(dst, instance), p.Hash), p.Service), p.deflated...)
}

func parseProcess(b []byte) (instance string, p *Process, ok bool) {
	s, rest, ok := sections(b, 3)
	if !ok {
		return "", nil, false
	}
	return string(s[0]), &Process{Hash: string(s[1]), Service: string(s[2]), deflated: rest}, true
}

// size is about how long the push's record is.
func (p *Push) size() int64 {
	n := recHeader + 17 + 4*4 + len(p.Instance) + len(p.Hash) + len(p.Service) + len(p.Meta)
	for _, b := range p.Profiles {
		n += 4 + len(b)
	}
	return int64(n)
}

func (p *Push) append(dst []byte) []byte {
	dst = append(dst, p.Lane)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(p.Start))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(p.End))
	dst = appendSection(appendSection(appendSection(appendSection(dst, p.Instance), p.Hash), p.Service), p.Meta)
	for _, b := range p.Profiles {
		dst = appendSection(dst, b)
	}
	return dst
}

// Item is a push that was read.
type Item struct {
	Lane              uint8
	Start, End        int64
	Instance, Service string
	Hash              string
	Process           *Process // nil where it has none
	Meta              []byte
	Profiles          []byte // their sections, one after the other
	Bytes             int64  // of its record

	appended int64 // Unix ms

	file    uint64
	end     int64
	account *Account // of a record of gaps
	done    bool
	dropped bool
	damaged bool
}

var errPayload = errors.New("a payload that its kind does not have")

// parsePush reads the payload of a push, or of gaps.
func parsePush(k kind, b []byte) (*Item, error) {
	if len(b) < 17 {
		return nil, errPayload
	}
	it := &Item{Lane: b[0], Start: int64(binary.LittleEndian.Uint64(b[1:])), End: int64(binary.LittleEndian.Uint64(b[9:])), Bytes: int64(recHeader + len(b))}
	s, rest, ok := sections(b[17:], 4)
	if !ok {
		return nil, errPayload
	}
	it.Instance, it.Hash, it.Service, it.Meta, it.Profiles = string(s[0]), string(s[1]), string(s[2]), s[3], rest
	if k != kindGaps {
		return it, nil
	}
	raw, _, ok := section(rest)
	it.Profiles, it.account = nil, new(Account)
	if !ok || json.Unmarshal(raw, it.account) != nil {
		return nil, errPayload
	}
	return it, nil
}

// Loss is what one process lost.
type Loss struct {
	Instance string `json:"instance"` // "": of none, or of those that there is no room for
	Service  string `json:"service,omitempty"`
	Pushes   int64  `json:"pushes"`
	From     int64  `json:"from"` // Unix ms, of the pushes' intervals
	To       int64  `json:"to"`
}

// Account says what was dropped.
type Account struct {
	Through uint64 `json:"through"` // the highest file that is gone with it
	Losses  []Loss `json:"losses"`
}

// maxLosses bounds an account; what others lost is added up under no name.
const maxLosses = 250

func (a *Account) add(l Loss) {
	if l.Pushes == 0 {
		return
	}
	at := -1
	for i := range a.Losses {
		if a.Losses[i].Instance == l.Instance {
			at = i
		}
	}
	if at < 0 && l.Instance != "" && len(a.Losses) >= maxLosses-1 {
		l.Instance, l.Service = "", ""
		a.add(l)
		return
	}
	if at < 0 {
		a.Losses = append(a.Losses, l)
		return
	}
	have := &a.Losses[at]
	have.Pushes += l.Pushes
	have.From, have.To = min(have.From, l.From), max(have.To, l.To)
}

// maxNamed bounds the names in an account, in bytes.
const maxNamed = 128

// addItem adds what is lost with it.
func (a *Account) addItem(it *Item) {
	if it.account == nil {
		a.add(Loss{Instance: it.Instance[:min(len(it.Instance), maxNamed)], Service: it.Service[:min(len(it.Service), maxNamed)], Pushes: 1, From: it.Start, To: it.End})
		return
	}
	for _, l := range it.account.Losses {
		a.add(l)
	}
}

// Pushes returns how many pushes the account is of.
func (a *Account) Pushes() (n int64) {
	for _, l := range a.Losses {
		n += l.Pushes
	}
	return n
}
