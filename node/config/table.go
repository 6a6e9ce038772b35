package config

import (
	"encoding/json"

	"github.com/BurntSushi/toml"
)

// JSON returns a text in TOML as one JSON object, for files that may be written
// in either. Its error names the line.
func JSON(text []byte) ([]byte, error) {
	var table map[string]any
	if err := toml.Unmarshal(text, &table); err != nil {
		return nil, err
	}
	return json.Marshal(table)
}
