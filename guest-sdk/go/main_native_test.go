//go:build !wasip1

package exuvia

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/exuvia/exuvia/guest-sdk/go/msgpack"
)

type own struct{ n int }

func (o own) MarshalMsgpack() ([]byte, error)      { return msgpack.Marshal(o.n) }
func (o *own) UnmarshalMsgpack(saved []byte) error { return msgpack.Unmarshal(saved, &o.n) }

type node struct {
	Next *node
}

type described struct {
	Count   int64
	Notes   []string `msgpack:"texts"`
	At      float32
	Raw     []byte
	Any     msgpack.Raw
	Owner   *Pid
	Kept    []Caller[int] `msgpack:"kept,omitempty"`
	ByName  map[string]bool
	Self    node
	When    time.Time
	Own     own
	hidden  int
	Dropped int `msgpack:"-"`
}

func TestTheStateIsDescribedAsItIsSaved(t *testing.T) {
	want := "{count?: int, texts?: List<text>, at?: float, raw?: bytes, any?: any, owner?: Option<pid>, " +
		"kept?: Option<List<{pid?: pid, reference?: int}>>, by_name?: Map<text, bool>, " +
		"self?: {next?: Option<'exuvia.node'>}, when?: 'time.Time', own?: 'exuvia.own'}"
	if got := saved(reflect.TypeFor[described](), nil); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	encoded, err := msgpack.Marshal(&described{hidden: 1})
	if err != nil {
		t.Fatal(err)
	}
	var names map[string]msgpack.Raw
	if err := msgpack.Unmarshal(encoded, &names); err != nil {
		t.Fatal(err)
	}
	for name := range names {
		if !strings.Contains(want, name+"?: ") {
			t.Errorf("%q is saved and not described", name)
		}
	}
	if _, is := names["kept"]; is || len(names) != 10 {
		t.Errorf("%d fields are saved, `kept` among them: %v", len(names), is)
	}
}

func TestWhatLoadTakesIsSaid(t *testing.T) {
	defer func() { me = actor{} }()
	me = actor{}
	if State() != nil {
		t.Error("a module without a state describes one")
	}
	me = actor{schema: 3, state: reflect.TypeFor[struct{ N int }]()}
	for _, c := range []struct {
		migrates bool
		loads    []int32
		want     string
	}{{false, nil, `"fields"`}, {true, nil, `"any"`}, {true, []int32{1, 2}, "[1,2]"}} {
		me.migrates, me.loads = c.migrates, c.loads
		want := `{"schema":3,"loads":` + c.want + `,"type":"{n?: int}"}` + "\n"
		if got := string(State()); got != want {
			t.Errorf("got %s want %s", got, want)
		}
	}
}
