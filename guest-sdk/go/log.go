package exuvia

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/exuvia/exuvia/guest-sdk/go/internal/sys"
)

// Level is how important a line of the log is.
type Level int32

// The levels.
const (
	LevelError Level = sys.LogError
	LevelWarn  Level = sys.LogWarn
	LevelInfo  Level = sys.LogInfo
	LevelDebug Level = sys.LogDebug
)

// Log writes a line to the node's log, which adds the time, the pid and the module. What fmt.Println and package log
// print goes there too, a line at a time.
func Log(level Level, format string, arguments ...any) {
	if len(arguments) > 0 {
		format = fmt.Sprintf(format, arguments...)
	}
	sys.Log(int32(level), format)
}

// Errorf logs a failure.
func Errorf(format string, arguments ...any) { Log(LevelError, format, arguments...) }

// Warnf logs what is unexpected.
func Warnf(format string, arguments ...any) { Log(LevelWarn, format, arguments...) }

// Infof logs what is worth knowing.
func Infof(format string, arguments ...any) { Log(LevelInfo, format, arguments...) }

// Debugf logs for the author of the module.
func Debugf(format string, arguments ...any) { Log(LevelDebug, format, arguments...) }

// Random fills a buffer with random bytes that are good for keys, as crypto/rand does.
func Random(buffer []byte) {
	for len(buffer) > 0 {
		n := min(len(buffer), 65_536)
		sys.Random(buffer[:n])
		buffer = buffer[n:]
	}
}

// Monotonic returns the time since a fixed point, which never goes back. It is the node's time, also in tests that
// control it; time.Now is that of the machine.
func Monotonic() time.Duration { return time.Duration(sys.Clock(sys.ClockMonotonic)) }

// Now returns the node's time of day.
func Now() time.Time { return time.Unix(0, sys.Clock(sys.ClockRealtime)) }

// Number is something that [Info] tells.
type Number int32

// What [Info] tells.
const (
	Reductions      Number = sys.InfoReductions      // work done so far
	MailboxLength   Number = sys.InfoMailbox         // messages that wait
	Upgrades        Number = sys.InfoUpgrades        // swaps to new code so far
	HostMinor       Number = sys.InfoABIMinor        // the minor version of the host's ABI
	MessageBytes    Number = sys.InfoMessageBytes    // the most bytes of a message that may be sent
	MailboxBytes    Number = sys.InfoMailboxBytes    // the most bytes that may wait
	MailboxMessages Number = sys.InfoMailboxMessages // the most messages that may wait
	MemoryBytes     Number = sys.InfoMemoryBytes     // the most bytes of memory
)

// Info returns a number about this process.
func Info(what Number) int64 { return sys.Info(int32(what)) }

// NewLogHandler returns a handler with which package log/slog writes to the node's log:
//
//	slog.SetDefault(slog.New(exuvia.NewLogHandler(slog.LevelInfo)))
func NewLogHandler(least slog.Level) slog.Handler {
	var text strings.Builder
	options := &slog.HandlerOptions{Level: least, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		// The host has the time and the level.
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
			return slog.Attr{}
		}
		return a
	}}
	return logHandler{slog.NewTextHandler(&text, options), &text}
}

type logHandler struct {
	slog.Handler
	text *strings.Builder
}

func (h logHandler) Handle(ctx context.Context, record slog.Record) error {
	h.text.Reset()
	if err := h.Handler.Handle(ctx, record); err != nil {
		return err
	}
	line := strings.TrimSpace(record.Message + " " + h.text.String())
	level := LevelDebug
	switch {
	case record.Level >= slog.LevelError:
		level = LevelError
	case record.Level >= slog.LevelWarn:
		level = LevelWarn
	case record.Level >= slog.LevelInfo:
		level = LevelInfo
	}
	sys.Log(int32(level), line)
	return nil
}

func (h logHandler) WithAttrs(attributes []slog.Attr) slog.Handler {
	return logHandler{h.Handler.WithAttrs(attributes), h.text}
}

func (h logHandler) WithGroup(name string) slog.Handler {
	return logHandler{h.Handler.WithGroup(name), h.text}
}
