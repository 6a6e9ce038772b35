package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/edgenode/edgenode/node/config"
	"github.com/edgenode/edgenode/tiers/durable"
)

// The journal of a data directory may hold writes that the database does not have
// yet, and memory of deletes that only that database needs. So the directory
// remembers where its database is; beside another one the node does not start.

// placeFile is where it is written, in the data directory.
const placeFile = "l3.json"

const placeFormat = 1

// A place is where a data directory has its L3.
type place struct {
	Format int    `json:"format"`
	Kind   string `json:"kind"` // sqlite or server
	// At is the file, relative if it is in the data directory, or host:port/database.
	At string `json:"at"`
}

func (p place) String() string {
	if p.Kind == "sqlite" {
		return "the SQLite file " + p.At
	}
	return "the SQL server " + p.At
}

// setting is what an operator writes to have L3 there.
func (p place) setting() string {
	if p.Kind == "sqlite" {
		return fmt.Sprintf("remove sql_url, and set sqlite_path so that it names %s", p.At)
	}
	return "set sql_url so that it names " + p.At + " again"
}

// placeOf returns where cfg has L3.
func placeOf(cfg *config.Config) (place, error) {
	if cfg.SQLURL != "" {
		u, err := url.Parse(cfg.SQLURL)
		if err != nil {
			return place{}, errors.New("node: sql_url cannot be parsed") // err could show it
		}
		host := net.JoinHostPort(strings.ToLower(u.Hostname()), u.Port())
		switch socket := u.Query().Get("socket"); {
		case socket != "":
			host = "socket:" + socket
		case u.Port() == "":
			host = net.JoinHostPort(strings.ToLower(u.Hostname()), "3306")
		}
		return place{placeFormat, "server", host + u.Path}, nil
	}
	dir, err := filepath.Abs(cfg.DataDir)
	if err != nil {
		return place{}, fmt.Errorf("node: data_dir: %w", err)
	}
	file, err := filepath.Abs(cfg.Database())
	if err != nil {
		return place{}, fmt.Errorf("node: sqlite_path: %w", err)
	}
	if inside, err := filepath.Rel(dir, file); err == nil && filepath.IsLocal(inside) {
		file = inside
	}
	return place{placeFormat, "sqlite", file}, nil
}

// checkPlace compares where cfg has L3 with where its data directory has had it.
// It changes nothing.
func checkPlace(cfg *config.Config) error {
	now, err := placeOf(cfg)
	if err != nil {
		return err
	}
	was, known, err := readPlace(cfg.DataDir)
	if err != nil || !known || was.Kind == now.Kind && was.At == now.At {
		return err
	}
	return fmt.Errorf("node: the data in %s belongs to %s, and the configuration names %s; %s, or give %s a data_dir of its own; "+
		"if both are the same database, moved or renamed, remove %s", cfg.DataDir, was, now, was.setting(), now, filepath.Join(cfg.DataDir, placeFile))
}

// readPlace returns where dir has had L3, if that is known.
func readPlace(dir string) (p place, known bool, err error) {
	name := filepath.Join(dir, placeFile)
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		// Before this file was written there was SQLite only.
		at := filepath.Base((&config.Config{DataDir: dir}).Database())
		_, err := os.Stat(filepath.Join(dir, at))
		return place{placeFormat, "sqlite", at}, err == nil, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	switch {
	case err != nil:
		return p, false, fmt.Errorf("node: %s: %w; restore it from a backup, or remove it if the configuration names the right database", name, err)
	case p.Format > placeFormat:
		return p, false, fmt.Errorf("node: %s has format %d, this version reads %d: use a newer version", name, p.Format, placeFormat)
	}
	return p, true, nil
}

// keepPlace writes where cfg has L3, unless it is written already. The data
// directory is this process's.
func keepPlace(cfg *config.Config) error {
	now, err := placeOf(cfg)
	if err != nil {
		return err
	}
	name := filepath.Join(cfg.DataDir, placeFile)
	if _, err := os.Stat(name); err == nil {
		return nil
	}
	text, err := json.Marshal(now)
	if err != nil {
		return err
	}
	if err := durable.Replace(name, append(text, '\n')); err != nil {
		return fmt.Errorf("node: note where the database is: %w", err)
	}
	return nil
}
