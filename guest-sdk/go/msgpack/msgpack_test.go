package msgpack_test

import (
	"bytes"
	"encoding/hex"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/exuvia/exuvia/guest-sdk/go/msgpack"
)

type inner struct {
	Depth uint8
}

type base struct {
	Shared string
}

type outer struct {
	base
	Name      string
	TimeoutMs int64
	PeerID    [16]byte
	Inner     *inner
	List      []inner
	ByName    map[string]int16
	Blob      []byte
	Ratio     float64
	Flag      bool
	Any       any
	Raw       msgpack.Raw
	Renamed   int `msgpack:"other"`
	Omitted   int `msgpack:"omitted,omitempty"`
	Left      int `msgpack:"-"`
	At        time.Time
	Ext       msgpack.Ext
	hidden    int
}

func full() outer {
	return outer{
		base: base{"shared"}, Name: "a", TimeoutMs: -70000, PeerID: [16]byte{1, 15: 2}, Inner: &inner{3},
		List: []inner{{1}, {2}}, ByName: map[string]int16{"x": -300}, Blob: []byte{1, 2}, Ratio: 1.5, Flag: true,
		Any: []any{nil, int64(5), "t", map[string]any{"k": false}, 2.5, []byte{9}}, Raw: msgpack.Raw{0x93, 1, 2, 3}, Renamed: 7,
		At: time.Unix(1<<35, 5), Ext: msgpack.Ext{Type: 4, Data: []byte{1, 2, 3}},
	}
}

func TestValuesSurvive(t *testing.T) {
	want := full()
	encoded, err := msgpack.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"shared", "timeout_ms", "peer_id", "by_name", "other"} {
		if !bytes.Contains(encoded, []byte(name)) {
			t.Errorf("no key %s", name)
		}
	}
	for _, name := range []string{"omitted", "left", "hidden"} {
		if bytes.Contains(encoded, []byte(name)) {
			t.Errorf("a key %s", name)
		}
	}
	var got outer
	if err := msgpack.Unmarshal(encoded, &got); err != nil {
		t.Fatal(err)
	}
	if !got.At.Equal(want.At) {
		t.Errorf("the time is %v", got.At)
	}
	got.At = want.At
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestBytesAreThoseOfTheSpecification(t *testing.T) {
	for _, c := range []struct {
		value any
		want  string
	}{
		{nil, "c0"}, {true, "c3"}, {0, "00"}, {127, "7f"}, {128, "cc80"}, {256, "cd0100"}, {65536, "ce00010000"},
		{uint64(math.MaxUint64), "cfffffffffffffffff"}, {-1, "ff"}, {-32, "e0"}, {-33, "d0df"}, {-129, "d1ff7f"},
		{-32769, "d2ffff7fff"}, {int64(math.MinInt64), "d38000000000000000"}, {float32(1), "ca3f800000"}, {1.0, "cb3ff0000000000000"},
		{"a", "a161"}, {strings.Repeat("b", 32), "d920" + strings.Repeat("62", 32)}, {[]byte{1}, "c40101"}, {[]int{1, 2}, "920102"},
		{[]int(nil), "90"}, {map[string]int{"a": 1}, "81a16101"}, {struct{}{}, "80"}, {[2]byte{1, 2}, "c4020102"},
		{time.Unix(1, 0), "d6ff00000001"}, {msgpack.Ext{Type: 1, Data: make([]byte, 16)}, "d801" + strings.Repeat("00", 16)},
		{make([]int, 16), "dc0010" + strings.Repeat("00", 16)},
	} {
		got, err := msgpack.Marshal(c.value)
		if err != nil || hex.EncodeToString(got) != c.want {
			t.Errorf("%v is %x, %v; want %s", c.value, got, err, c.want)
		}
	}
}

func decode[T any](t *testing.T, encoded string) (T, error) {
	t.Helper()
	data, err := hex.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	var value T
	return value, msgpack.Unmarshal(data, &value)
}

func TestIntegersOfAnyWidthAreRead(t *testing.T) {
	for _, five := range []string{"05", "cc05", "cd0005", "ce00000005", "cf0000000000000005", "d005", "d10005", "d200000005", "d30000000000000005", "cb4014000000000000"} {
		if n, err := decode[int8](t, five); n != 5 || err != nil {
			t.Errorf("%s is %d, %v", five, n, err)
		}
		if n, err := decode[uint64](t, five); n != 5 || err != nil {
			t.Errorf("%s is %d, %v", five, n, err)
		}
		if f, err := decode[float32](t, five); f != 5 || err != nil {
			t.Errorf("%s is %v, %v", five, f, err)
		}
	}
	for _, c := range []string{"cc80", "d18000", "cb3ff8000000000000", "a0", "cb7ff0000000000000", "c1", ""} {
		if n, err := decode[int8](t, c); err == nil {
			t.Errorf("%s is %d", c, n)
		}
	}
	if _, err := decode[uint8](t, "ff"); err == nil {
		t.Error("-1 fits uint8")
	}
	if n, err := decode[uint64](t, "cfffffffffffffffff"); n != math.MaxUint64 || err != nil {
		t.Error(n, err)
	}
}

func TestErrorsNameTheField(t *testing.T) {
	data, _ := msgpack.Marshal(map[string]any{"list": []any{map[string]any{"depth": 1}, map[string]any{"depth": "deep"}}})
	var o outer
	err := msgpack.Unmarshal(data, &o)
	if err == nil || !strings.Contains(err.Error(), "field `list[1].depth`: expected an integer, found a string") {
		t.Error(err)
	}
	if err := msgpack.Prepare(reflect.TypeFor[struct{ C chan int }]()); err == nil {
		t.Error("a channel has a form")
	}
	if err := msgpack.Prepare(reflect.TypeFor[struct{ c int }]()); err == nil {
		t.Error("a struct of which nothing is kept")
	}
}

func TestAPidIsReadFromAList(t *testing.T) {
	list := make([]int, 16)
	list[3] = 200
	data, _ := msgpack.Marshal(list)
	var pid [16]byte
	if err := msgpack.Unmarshal(data, &pid); err != nil || pid[3] != 200 {
		t.Error(pid, err)
	}
	data, _ = msgpack.Marshal(list[:15])
	if err := msgpack.Unmarshal(data, &pid); err == nil {
		t.Error("15 bytes are a pid")
	}
}

type myByte byte

func TestArraysAndSlicesOfNamedBytes(t *testing.T) {
	type bytes struct {
		Short [4]myByte
		Long  [16]myByte
		Slice []myByte
	}
	want := bytes{[4]myByte{1, 2, 3, 4}, [16]myByte{15: 9}, []myByte{5}}
	data, err := msgpack.Marshal(want) // by value, so the arrays are not addressable
	if err != nil {
		t.Fatal(err)
	}
	if hexed := hex.EncodeToString(data); !strings.Contains(hexed, "c40401020304") || !strings.Contains(hexed, "c40105") {
		t.Error(hexed)
	}
	var got bytes
	if err := msgpack.Unmarshal(data, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Error(got, err)
	}
	if got, err := decode[[4]myByte](t, "9401020304"); err != nil || got != want.Short {
		t.Error(got, err)
	}
	if _, err := decode[[4]myByte](t, "c403010203"); err == nil || !strings.Contains(err.Error(), "expected 4 bytes, found 3") {
		t.Error(err)
	}
	if got, err := decode[map[[2]myByte]int](t, "81c4020102"+"05"); err != nil || got[[2]myByte{1, 2}] != 5 {
		t.Error(got, err)
	}
}

func TestWhatIsAnnouncedButNotThereTakesNoMemory(t *testing.T) {
	for _, huge := range []string{"ddffffffff", "dfffffffff", "dbffffffff", "c6ffffffff", "c9ffffffff01", "dd7fffffffc0"} {
		if _, err := decode[any](t, huge); err == nil {
			t.Errorf("%s is a value", huge)
		}
		if _, err := decode[[]outer](t, huge); err == nil {
			t.Errorf("%s is a list", huge)
		}
	}
	deep := bytes.Repeat([]byte{0x91}, 1_000_000)
	var any any
	if err := msgpack.Unmarshal(append(deep, 0xc0), &any); err == nil || !strings.Contains(err.Error(), "deeper") {
		t.Error(err)
	}
	var raw msgpack.Raw
	if err := msgpack.Unmarshal(append(deep, 0xc0), &raw); err != nil {
		t.Error(err)
	}
}

func TestTheBudgetIsKept(t *testing.T) {
	data, _ := msgpack.Marshal(make([]*int, 100_000))
	d := msgpack.NewDecoder(data)
	d.Budget = 1 << 20
	var list []any
	if err := d.Decode(&list); err == nil || !strings.Contains(err.Error(), "memory") {
		t.Error(err)
	}
	// One byte each, and 24 in memory.
	var lists [][]byte
	d = msgpack.NewDecoder(data)
	d.Budget = 1 << 20
	if err := d.Decode(&lists); err == nil {
		t.Error("2.4 MB were allocated with a budget of 1 MiB")
	}
}

type celsius float64

func (c celsius) MarshalMsgpack() ([]byte, error) { return msgpack.Marshal(float64(c) * 10) }
func (c *celsius) UnmarshalMsgpack(b []byte) error {
	var f float64
	err := msgpack.Unmarshal(b, &f)
	*c = celsius(f / 10)
	return err
}

func TestTypesMayEncodeThemselves(t *testing.T) {
	data, err := msgpack.Marshal(map[string]celsius{"now": 21.5})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]celsius{}
	if err := msgpack.Unmarshal(data, &got); err != nil || got["now"] != 21.5 {
		t.Error(got, err)
	}
}

// recursive refers to itself.
type recursive struct {
	Next *recursive
	All  []recursive
}

func TestTypesMayReferToThemselves(t *testing.T) {
	data, err := msgpack.Marshal(recursive{Next: &recursive{}, All: []recursive{{}, {}}})
	if err != nil {
		t.Fatal(err)
	}
	var got recursive
	if err := msgpack.Unmarshal(data, &got); err != nil || got.Next == nil || len(got.All) != 2 {
		t.Error(got, err)
	}
	loop := &recursive{}
	loop.Next = loop
	if _, err := msgpack.Marshal(loop); err == nil {
		t.Error("a value without an end was encoded")
	}
}

// check decodes any bytes in all ways. What can be decoded is encoded and decoded again to the same.
func check(t *testing.T, data []byte) {
	for _, share := range []bool{false, true} {
		d := msgpack.NewDecoder(data)
		d.Share, d.Budget = share, 64<<20
		var o outer
		if d.Decode(&o) == nil {
			if _, err := msgpack.Marshal(o); err != nil {
				t.Errorf("%x was decoded, and not encoded: %v", data, err)
			}
		}
		var r recursive
		d = msgpack.NewDecoder(data)
		_ = d.Decode(&r)
		d = msgpack.NewDecoder(data)
		value, err := d.Any()
		skipped := msgpack.NewDecoder(data)
		raw, rawErr := skipped.Skip()
		if err != nil {
			continue
		}
		if rawErr != nil || !bytes.Equal(skipped.Rest(), d.Rest()) {
			t.Errorf("%x: read and skipped differ: %v", data, rawErr)
		}
		again, err := msgpack.Marshal(value)
		if err != nil {
			t.Errorf("%x: %v", raw, err)
			continue
		}
		var second any
		if err := msgpack.Unmarshal(again, &second); err != nil {
			t.Errorf("%x became %x: %v", raw, again, err)
		}
	}
}

func TestRandomAndTruncatedBytesAreErrors(t *testing.T) {
	valid, _ := msgpack.Marshal(full())
	random := rand.New(rand.NewPCG(1, 2))
	for n := range valid {
		check(t, valid[:n])
		var o outer
		if msgpack.Unmarshal(valid[:n], &o) == nil {
			t.Errorf("the first %d bytes are a value", n)
		}
	}
	for range 20_000 {
		data := append([]byte(nil), valid...)
		for range 1 + random.IntN(4) {
			data[random.IntN(len(data))] = byte(random.Uint32())
		}
		check(t, data)
		data = data[:random.IntN(40)]
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		check(t, data)
	}
}

func FuzzDecode(f *testing.F) {
	valid, _ := msgpack.Marshal(full())
	f.Add(valid)
	f.Add([]byte{0x81, 0xa3, 'A', 'd', 'd', 0x81, 0xa2, 'b', 'y', 5})
	f.Fuzz(func(t *testing.T, data []byte) { check(t, data) })
}

func BenchmarkDecode(b *testing.B) {
	data, _ := msgpack.Marshal(map[string]int{"by": 5})
	var m struct{ By int64 }
	b.ReportAllocs()
	for b.Loop() {
		if err := msgpack.Unmarshal(data, &m); err != nil {
			b.Fatal(err)
		}
	}
}
