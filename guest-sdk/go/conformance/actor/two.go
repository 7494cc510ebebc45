//go:build two

package main

import (
	"fmt"

	exuvia "github.com/exuvia/exuvia/guest-sdk/go"
)

const schema = 2

var version = "2"

type state struct {
	Total int64
	Notes []string
}

func (s *state) number() *int64 { return &s.Total }

func init() {
	exuvia.Migrate(func(from int32, saved []byte) (*actor, error) {
		switch from {
		case 1:
			type first struct {
				Count int64
				Notes []string
			}
			old, err := exuvia.Read[first](saved)
			return &actor{state: state{old.Count, old.Notes}}, err
		case 2:
			return exuvia.Read[actor](saved)
		}
		return nil, fmt.Errorf("schema %d is not known", from)
	}, 1)
}
