// A station in Go: see ../README.md.
package main

import exuvia "github.com/exuvia/exuvia/guest-sdk/go"

const VERSION = 1

// Station is the state, which every station saves in the same form.
type Station struct {
	Passed    int64
	Arrived   int64
	Travelled int64
	Halted    bool
	Next      string
}

// Start is what a station is started with.
type Start struct{ Next string }

// Pass is a token that comes by.
type Pass struct{ Hops int64 }

// None is a request without parameters.
type None struct{}

// Counts is what a station has seen.
type Counts struct {
	Language                            string
	Version, Passed, Arrived, Travelled int64
}

func init() {
	exuvia.Actor(1, func(_ *exuvia.Context, args Start) (*Station, error) { return &Station{Next: args.Next}, nil })
	exuvia.Handle("Pass", (*Station).pass)
	exuvia.HandleRequest("Halt", (*Station).halt)
	exuvia.HandleRequest("Count", (*Station).count)
}

// The token is sent on, or has arrived.
func (s *Station) pass(_ *exuvia.Context, m Pass) {
	m.Hops++
	s.Passed++
	if !s.Halted {
		if to, err := exuvia.Whereis(s.Next); err == nil {
			to.Send("Pass", m)
			return
		}
	}
	s.Arrived++
	s.Travelled += m.Hops
}

func (s *Station) halt(*exuvia.Context, None) (any, error) {
	s.Halted = true
	return nil, nil
}

func (s *Station) count(*exuvia.Context, None) (Counts, error) {
	return Counts{"Go", VERSION, s.Passed, s.Arrived, s.Travelled}, nil
}

func main() { exuvia.Main() }
