// ping.wasm of the conformance suite: two processes that send a message back and forth.
package main

import exuvia "github.com/exuvia/exuvia/guest-sdk/go"

type player struct {
	Handled int64
}

type nothing struct{}

type start struct {
	To     exuvia.Pid
	Rounds int64
}

type ball struct {
	Left int64
}

func init() {
	exuvia.Actor(1, func(*exuvia.Context, nothing) (*player, error) { return &player{}, nil })
	exuvia.Handle("Start", func(p *player, _ *exuvia.Context, m start) { hit(m.To, "Ping", m.Rounds) })
	exuvia.Handle("Ping", func(p *player, ctx *exuvia.Context, m ball) {
		p.Handled++
		hit(ctx.Sender, "Pong", m.Left)
	})
	exuvia.Handle("Pong", func(p *player, ctx *exuvia.Context, m ball) {
		p.Handled++
		if m.Left > 1 {
			hit(ctx.Sender, "Ping", m.Left-1)
		}
	})
	exuvia.HandleRequest("Rounds", func(p *player, _ *exuvia.Context, _ nothing) (int64, error) { return p.Handled, nil })
}

func hit(to exuvia.Pid, name string, left int64) {
	if err := to.Send(name, &ball{left}); err != nil {
		exuvia.Warnf("the ball is lost: %v", err)
	}
}

func main() { exuvia.Main() }
