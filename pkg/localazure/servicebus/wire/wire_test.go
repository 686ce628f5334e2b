package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"testing"
	"time"
)

func ptr[T any](v T) *T { return &v }

func TestValuesSurvive(t *testing.T) {
	for _, v := range []any{
		nil, true, false, uint8(1), int8(-1), uint16(1), int16(-1), uint32(0), uint32(255), uint32(256), int32(-7),
		uint64(0), uint64(255), uint64(1 << 40), int64(-1 << 40), float32(1.5), 2.5, "", "text", string(make([]byte, 300)),
		Symbol("amqp:accepted:list"), []byte{}, bytes.Repeat([]byte{7}, 300), UUID{1, 2, 3}, time.UnixMilli(1234567890123).UTC(),
		[]any{}, []any{uint32(1), nil, "x", []any{true}}, make([]any, 300), Map{{Symbol("k"), "v"}, {[]byte("k"), nil}},
		Described{Descriptor: uint64(0x24), Value: []any{}},
	} {
		b, err := Append(nil, v)
		if err != nil {
			t.Errorf("%v: %v", v, err)
			continue
		}
		got, rest, err := Decode(append(b, 0xff))
		if err != nil || !reflect.DeepEqual(got, v) || !bytes.Equal(rest, []byte{0xff}) {
			t.Errorf("%#v came back as %#v, rest %x, %v", v, got, rest, err)
		}
	}
}

func frames() []Performative {
	return []Performative{
		&Open{ContainerID: "c", Hostname: "h", MaxFrameSize: 65536, ChannelMax: ptr(uint16(9)), IdleTimeout: 1000},
		&Begin{RemoteChannel: ptr(uint16(3)), NextOutgoingID: 1, IncomingWindow: 2, OutgoingWindow: 3, HandleMax: ptr(uint32(4))},
		&Attach{Name: "n", Handle: 1, Receiver: true, SndSettleMode: ptr(uint8(2)), RcvSettleMode: ptr(uint8(1)),
			Source: &Terminus{Address: "q", Filter: Map{{Symbol("f"), Described{uint64(0x137000000C), nil}}}}, Target: &Terminus{Address: "r"},
			InitialDeliveryCount: ptr(uint32(0)), MaxMessageSize: 262144, Properties: Map{{Symbol("p"), int64(1)}}},
		&Flow{NextIncomingID: ptr(uint32(0)), IncomingWindow: 1, NextOutgoingID: 2, OutgoingWindow: 3, Handle: ptr(uint32(0)),
			DeliveryCount: ptr(uint32(5)), LinkCredit: ptr(uint32(6)), Available: ptr(uint32(7)), Drain: true, Echo: true},
		&Transfer{Handle: 1, DeliveryID: ptr(uint32(2)), DeliveryTag: []byte("tag"), MessageFormat: ptr(uint32(0)), Settled: true, More: true, Aborted: true},
		&Disposition{Receiver: true, First: 1, Last: ptr(uint32(2)), Settled: true, State: Accepted{}},
		&Disposition{First: 1, State: Rejected{Error: &Error{Condition: "c", Description: "d", Info: Map{{Symbol("k"), "v"}}}}},
		&Disposition{First: 1, State: Modified{DeliveryFailed: true, UndeliverableHere: true, Annotations: Map{{Symbol("k"), "v"}}}},
		&Disposition{First: 1, State: Released{}},
		&Detach{Handle: 1, Closed: true, Error: &Error{Condition: "c"}},
		&End{Error: &Error{Condition: "c", Description: "d"}},
		&Close{},
		&SASLMechanisms{Mechanisms: []Symbol{"ANONYMOUS", "EXTERNAL"}},
		&SASLInit{Mechanism: "ANONYMOUS"},
		&SASLOutcome{Code: 1},
	}
}

func TestFramesSurvive(t *testing.T) {
	for _, want := range frames() {
		b, err := AppendFrame([]byte("before"), TypeAMQP, 513, want, []byte("payload"))
		if err != nil {
			t.Errorf("%T: %v", want, err)
			continue
		}
		r := bytes.NewReader(b[len("before"):])
		f, err := ReadFrame(r)
		if err != nil || f.Channel != 513 || string(f.Payload) != "payload" || r.Len() != 0 {
			t.Errorf("%T: %+v, %v", want, f, err)
		}
		if !reflect.DeepEqual(f.Body, want) {
			t.Errorf("%+v came back as %+v", want, f.Body)
		}
		// Clients want the descriptor as a smallulong.
		if body := b[len("before")+headerSize:]; body[0] != codeDescribed || body[1] != codeSmallUlong {
			t.Errorf("%T starts with %x", want, body[:2])
		}
	}
}

func TestEmptyFrame(t *testing.T) {
	b, err := AppendFrame(nil, TypeAMQP, 0, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if f, err := ReadFrame(bytes.NewReader(b)); err != nil || f.Body != nil {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestBadFramesAreRefused(t *testing.T) {
	frame := func(size uint32, offset byte, body ...byte) []byte {
		return append(append(binary.BigEndian.AppendUint32(nil, size), offset, TypeAMQP, 0, 0), body...)
	}
	body := func(b ...byte) []byte { return frame(uint32(8+len(b)), 2, b...) }
	for name, data := range map[string][]byte{
		"too large":              frame(MaxFrameSize+1, 2),
		"shorter than a header":  frame(4, 2),
		"offset inside header":   frame(8, 1),
		"offset beyond the end":  frame(8, 3),
		"cut off":                frame(100, 2, 0),
		"not described":          body(codeNull),
		"unknown performative":   body(codeDescribed, codeSmallUlong, 0x77, codeList0),
		"no list":                body(codeDescribed, codeSmallUlong, codeBegin, codeNull),
		"missing field":          body(codeDescribed, codeSmallUlong, codeBegin, codeList0),
		"wrong type":             body(codeDescribed, codeSmallUlong, codeOpen, codeList8, 2, 1, codeTrue),
		"list longer than frame": body(codeDescribed, codeSmallUlong, codeOpen, codeList32, 0xff, 0xff, 0xff, 0xff),
		"count without elements": body(codeDescribed, codeSmallUlong, codeOpen, codeList8, 1, 200),
		"array of nothing":       body(codeDescribed, codeSmallUlong, codeOpen, codeList8, 12, 1, codeArray32, 0, 0, 0, 5, 0x7f, 0xff, 0xff, 0xff, codeNull),
		"odd map":                body(codeDescribed, codeSmallUlong, codeOpen, codeList8, 5, 1, codeMap8, 2, 1, codeNull),
		"deep":                   body(bytes.Repeat([]byte{codeDescribed}, 1000)...),
		"bad UTF-8":              body(codeDescribed, codeSmallUlong, codeOpen, codeList8, 4, 1, codeString8, 1, 0xff),
	} {
		if f, err := ReadFrame(bytes.NewReader(data)); err == nil {
			t.Errorf("%s: read %+v", name, f)
		}
	}
	if _, err := ReadFrame(bytes.NewReader(nil)); !errors.Is(err, io.EOF) {
		t.Errorf("an end between frames is %v, want EOF", err)
	}
}

func TestCoordinatorIsTold(t *testing.T) {
	b, err := AppendFrame(nil, TypeAMQP, 0, &Attach{Name: "n", Target: &Terminus{}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.Replace(b, []byte{codeDescribed, codeSmallUlong, codeTarget}, []byte{codeDescribed, codeSmallUlong, codeCoordinator}, 1)
	f, err := ReadFrame(bytes.NewReader(b))
	if a, ok := f.Body.(*Attach); err != nil || !ok || !a.Coordinator || a.Target != nil {
		t.Errorf("%+v, %v", f.Body, err)
	}
}

// Whatever a peer sends, reading it must end without a panic; and what was
// understood must mean the same after it was written and read again.
func FuzzReadFrame(f *testing.F) {
	for _, p := range frames() {
		b, err := AppendFrame(nil, TypeAMQP, 1, p, []byte("payload"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := ReadFrame(bytes.NewReader(data))
		if err != nil || first.Body == nil {
			return
		}
		if d, ok := first.Body.(*Disposition); ok && d.State == (Received{}) {
			return // never sent
		}
		if tr, ok := first.Body.(*Transfer); ok && tr.State != nil {
			return // likewise
		}
		b, err := AppendFrame(nil, first.Type, first.Channel, first.Body, first.Payload)
		if err != nil {
			return // raw octets of a decimal, say, are not written back
		}
		second, err := ReadFrame(bytes.NewReader(b))
		if err != nil {
			if len(b) > MaxFrameSize {
				return
			}
			t.Fatalf("%+v was written but not read: %v", first.Body, err)
		}
		again, err := AppendFrame(nil, second.Type, second.Channel, second.Body, second.Payload)
		if err != nil || !bytes.Equal(b, again) {
			t.Fatalf("%x became %x, %v", b, again, err)
		}
	})
}
