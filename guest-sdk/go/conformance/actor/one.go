//go:build !two && !bad

package main

const schema = 1

var version = "1"

type state struct {
	Count int64
	Notes []string
}

func (s *state) number() *int64 { return &s.Count }
