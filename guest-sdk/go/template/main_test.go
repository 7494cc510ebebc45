package main

import (
	"testing"

	"github.com/exuvia/exuvia/guest-sdk/go/exuviatest"
)

func TestItCounts(t *testing.T) {
	counter := exuviatest.Start(t, nil)
	counter.Send("Add", Add{By: 3})
	if got := exuviatest.Ask[int64](counter, "Get", nil); got != 3 {
		t.Errorf("the count is %d", got)
	}
}
