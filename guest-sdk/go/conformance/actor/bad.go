//go:build bad

package main

import (
	"fmt"

	exuvia "github.com/exuvia/exuvia/guest-sdk/go"
)

const schema = 3

var version = "3"

type state struct {
	Count int64
	Notes []string
}

func (s *state) number() *int64 { return &s.Count }

func init() {
	exuvia.Migrate(func(from int32, saved []byte) (*actor, error) {
		old, err := exuvia.Read[actor](saved)
		if err != nil {
			return nil, err
		}
		if from == 2 {
			second, err := exuvia.Read[struct{ Total int64 }](saved)
			if err != nil {
				return nil, err
			}
			old.Count = second.Total
		}
		if old.Count == 13 {
			panic("thirteen brings bad luck")
		}
		if old.Count%2 != 0 {
			return nil, fmt.Errorf("the count %d is odd", old.Count)
		}
		return old, nil
	})
}
