package hooktool

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/guest/c"
	"github.com/edgenode/edgenode/hooks/meter"
)

// templates holds a folder per language, and the files that most of them share.
// Names lose a last ".tmpl"; {{NAME}} stands for the name of the project.
//
//go:embed all:templates
var templates embed.FS

// languages are how each one is built.
var languages = []struct {
	name   string
	shared []string // files beside the folder of the language
	build  []string
}{
	{"go", []string{"cases.toml"}, []string{
		"go get github.com/edgenode/edgenode/hooks/guest",
		"GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags='-s -w' -o {{NAME}}.wasm .",
		"edgenode hook manifest {{NAME}}.wasm manifest.json",
	}},
	{"rust", []string{"cases.toml"}, []string{
		"cargo build --release",
		"cp target/wasm32-unknown-unknown/release/{{CRATE}}.wasm {{NAME}}.wasm",
	}},
	{"assemblyscript", []string{"cases.toml", "manifest.json"}, []string{"npm install", "npm run build"}},
	{"c", []string{"cases.toml"}, []string{"make"}},
	{"wat", nil, []string{"wat2wasm hook.wat -o {{NAME}}.wasm"}},
}

// ErrProject is wrapped when a project cannot be made as asked. Nothing was
// written.
var ErrProject = errors.New("hook project")

// A Project is what NewProject made.
type Project struct {
	Dir      string   `json:"dir"`
	Language string   `json:"language"`
	Module   string   `json:"module"` // what the commands build, in Dir
	Files    []string `json:"files"`
	Build    []string `json:"build"` // commands for a shell, in Dir
	Test     string   `json:"test"`
}

// Languages returns the languages that there are templates for.
func Languages() (names []string) {
	for _, l := range languages {
		names = append(names, l.name)
	}
	return names
}

// NewProject writes a module's project to dir, which must not exist or be empty.
// The last part of dir is its name.
func NewProject(language, dir string) (Project, error) {
	i := slices.Index(Languages(), language)
	if i < 0 {
		return Project{}, fmt.Errorf("%w: language %q is unknown, there are %s", ErrProject, language, strings.Join(Languages(), ", "))
	}
	full, err := filepath.Abs(dir)
	if err != nil {
		return Project{}, err
	}
	name := filepath.Base(full)
	if name[0] < 'a' || name[0] > 'z' || len(name) > 64 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
		return Project{}, fmt.Errorf("%w: the folder's name %q becomes that of the module and must be 1 to 64 of a-z 0-9 _ -, a letter first", ErrProject, name)
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Project{}, fmt.Errorf("%w: %w", ErrProject, err)
	}
	if len(entries) > 0 {
		return Project{}, fmt.Errorf("%w: %s is not empty; name a new folder", ErrProject, dir)
	}
	files, err := projectFiles(language, languages[i].shared)
	if err != nil {
		return Project{}, err
	}
	fill := strings.NewReplacer("{{NAME}}", name, "{{CRATE}}", strings.ReplaceAll(name, "-", "_"))
	p := Project{Dir: dir, Language: language, Module: name + ".wasm", Test: fill.Replace("edgenode hook test {{NAME}}.wasm cases.toml")}
	for _, line := range languages[i].build {
		p.Build = append(p.Build, fill.Replace(line))
	}
	for _, f := range files {
		target := filepath.Join(dir, filepath.FromSlash(f.target))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return p, err
		}
		if err := writeNew(target, []byte(fill.Replace(f.text)), 0o644); err != nil {
			return p, err
		}
		p.Files = append(p.Files, f.target)
	}
	return p, nil
}

// projectFile is a template and where it goes, below the project's folder.
type projectFile struct{ target, text string }

func projectFiles(language string, shared []string) (files []projectFile, err error) {
	add := func(name, target string) error {
		text, err := templates.ReadFile(name)
		files = append(files, projectFile{strings.TrimSuffix(target, ".tmpl"), string(text)})
		return err
	}
	root := path.Join("templates", language)
	err = fs.WalkDir(templates, root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return add(name, strings.TrimPrefix(name, root+"/"))
	})
	for _, name := range shared {
		err = errors.Join(err, add(path.Join("templates", name), name))
	}
	if language == "c" {
		files = append(files, projectFile{"edge.h", c.Header})
	}
	return files, err
}

// SetManifest puts the manifest in a file, JSON, into the module in another, in
// place. It refuses a module that has one already.
func SetManifest(modulePath, manifestPath string) error {
	manifest, err := os.ReadFile(manifestPath)
	if err != nil {
		return err
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, manifest); err != nil {
		return fmt.Errorf("%s: %w", manifestPath, err)
	}
	st, err := os.Stat(modulePath)
	if err != nil {
		return err
	}
	code, err := os.ReadFile(modulePath)
	if err != nil {
		return err
	}
	m, err := meter.Parse(code)
	if err != nil {
		return fmt.Errorf("%s: %w", modulePath, err)
	}
	if _, ok := m.Custom(abi.SectionName); ok {
		return fmt.Errorf("%s has a manifest already; build it anew", modulePath)
	}
	return os.WriteFile(modulePath, meter.AppendCustom(code, abi.SectionName, compact.Bytes()), st.Mode().Perm())
}
