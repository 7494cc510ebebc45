// A process that counts. `exuvia dev` builds and runs it; change something here while it runs, and it goes on with the
// new code and the count that it has.
package main

import exuvia "github.com/exuvia/exuvia/guest-sdk/go"

// Counter is what the process remembers. New code takes it over by the names of its fields.
type Counter struct {
	Count int64
}

// Add counts on: `exuvia call counter add by=3`.
type Add struct {
	By int64
}

// Get asks for the count: `exuvia call counter get`.
type Get struct{}

func init() {
	// 1 is the schema of the state: raise it when a field gets another meaning.
	exuvia.Actor(1, func(*exuvia.Context, struct{}) (*Counter, error) { return &Counter{}, nil })
	exuvia.Handle("Add", (*Counter).add)
	exuvia.HandleRequest("Get", (*Counter).get)
}

func (c *Counter) add(_ *exuvia.Context, m Add) {
	c.Count += m.By
	exuvia.Infof("the count is %d", c.Count)
}

func (c *Counter) get(*exuvia.Context, Get) (int64, error) { return c.Count, nil }

func main() { exuvia.Main() }
