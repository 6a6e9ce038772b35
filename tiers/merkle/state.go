package merkle

import "fmt"

// A phase is what is being done with the tree.
type phase byte

// The phases. Their numbers are stored.
const (
	phaseNone      phase = 0 // there is no tree
	phaseClearing  phase = 1 // rows of an older tree are deleted
	phaseScanning  phase = 2 // rows of items are added up to position
	phaseFollowing phase = 3 // all changes up to seq are in the tree
)

// A state is the row that each commit compares and replaces.
type state struct {
	phase    phase
	serial   uint64 // counts commits: no state comes twice
	seq      uint64
	position []byte // id, while scanning
}

const stateLen = 18

func (s *state) row() []byte {
	b := append(make([]byte, 0, stateLen+len(s.position)), Format, byte(s.phase))
	b = le.AppendUint64(b, s.serial)
	b = le.AppendUint64(b, s.seq)
	return append(b, s.position...)
}

// parseState reads the state's row, nil for none. A tree of another format counts
// as none: it is built anew.
func parseState(b []byte) (s state, err error) {
	if b == nil {
		return s, nil
	}
	if len(b) < stateLen {
		return s, fmt.Errorf("%w: state of %d bytes; delete the rows of the tree", ErrCorrupt, len(b))
	}
	s.serial = le.Uint64(b[2:])
	if b[0] != Format {
		return s, nil
	}
	s.phase, s.seq = phase(b[1]), le.Uint64(b[10:])
	if len(b) > stateLen {
		s.position = append([]byte(nil), b[stateLen:]...)
	}
	if s.phase < phaseClearing || s.phase > phaseFollowing {
		return s, fmt.Errorf("%w: phase %d; delete the rows of the tree", ErrCorrupt, s.phase)
	}
	return s, nil
}
