// Command agree asks google/pprof's own reader about pprof files.
//
//	agree write DIR    writes files that use every corner of the format
//	agree same A B     compares what two files mean: values, stacks, labels, units, flags, comments
//	agree totals FILE  prints the sums by sample type and the flat and cumulative sums by function
//
// The order of tables and the numbers of ids are the writer's choice; everything else must be equal.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/google/pprof/profile"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	switch {
	case len(arguments) == 2 && arguments[0] == "write":
		return write(arguments[1])
	case len(arguments) == 3 && arguments[0] == "same":
		return same(arguments[1], arguments[2])
	case len(arguments) == 2 && arguments[0] == "totals":
		return totals(arguments[1])
	}
	return fmt.Errorf("usage: agree write DIR | same A B | totals FILE")
}

func read(path string) (*profile.Profile, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	parsed, err := profile.Parse(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return parsed, parsed.CheckValid()
}

// meaning lists what a file says, one fact a line, without ids and table positions.
func meaning(p *profile.Profile) []string {
	facts := []string{
		fmt.Sprintf("default type %q", p.DefaultSampleType),
		fmt.Sprintf("time %d duration %d period %d", p.TimeNanos, p.DurationNanos, p.Period),
		fmt.Sprintf("drop %q keep %q", p.DropFrames, p.KeepFrames),
		fmt.Sprintf("comments %q", p.Comments),
		fmt.Sprintf("doc %q", p.DocURL),
	}
	if p.PeriodType != nil {
		facts = append(facts, fmt.Sprintf("period type %s/%s", p.PeriodType.Type, p.PeriodType.Unit))
	}
	for position, sampleType := range p.SampleType {
		facts = append(facts, fmt.Sprintf("type %d %s/%s", position, sampleType.Type, sampleType.Unit))
	}
	for position, mapping := range p.Mapping {
		facts = append(facts, fmt.Sprintf("mapping %d %s", position, describeMapping(mapping)))
	}
	// Equal stacks with equal labels may be one row or several: the sum is the meaning.
	sums := map[string][]int64{}
	for _, sample := range p.Sample {
		key := describeSample(sample)
		if sums[key] == nil {
			sums[key] = make([]int64, len(sample.Value))
		}
		for position, value := range sample.Value {
			sums[key][position] += value
		}
	}
	for key, values := range sums {
		facts = append(facts, fmt.Sprintf("sample %v %s", values, key))
	}
	slices.Sort(facts)
	return facts
}

func describeMapping(m *profile.Mapping) string {
	if m == nil {
		return "none"
	}
	return fmt.Sprintf("%#x-%#x@%#x %q build %q functions %t files %t lines %t inlines %t",
		m.Start, m.Limit, m.Offset, m.File, m.BuildID,
		m.HasFunctions, m.HasFilenames, m.HasLineNumbers, m.HasInlineFrames)
}

func describeSample(sample *profile.Sample) string {
	var text strings.Builder
	for _, location := range sample.Location {
		fmt.Fprintf(&text, "<%#x folded %t in %s:", location.Address, location.IsFolded, describeMapping(location.Mapping))
		for _, line := range location.Line {
			fmt.Fprintf(&text, " %q (%q) %q:%d+%d col %d", line.Function.Name, line.Function.SystemName,
				line.Function.Filename, line.Line, line.Function.StartLine, line.Column)
		}
		text.WriteString(">")
	}
	for _, key := range sortedKeys(sample.Label) {
		fmt.Fprintf(&text, " %q=%q", key, sample.Label[key])
	}
	for _, key := range sortedKeys(sample.NumLabel) {
		units := sample.NumUnit[key]
		if !slices.ContainsFunc(units, func(unit string) bool { return unit != "" }) {
			units = nil
		}
		fmt.Fprintf(&text, " %q=%v%q", key, sample.NumLabel[key], units)
	}
	return text.String()
}

func sortedKeys[V any](values map[string]V) []string {
	keys := make([]string, 0, len(values))
	for key := range values {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}

func same(left, right string) error {
	a, err := read(left)
	if err != nil {
		return err
	}
	b, err := read(right)
	if err != nil {
		return err
	}
	before, after := meaning(a), meaning(b)
	var differences []string
	for _, fact := range before {
		if _, found := slices.BinarySearch(after, fact); !found {
			differences = append(differences, "- "+fact)
		}
	}
	for _, fact := range after {
		if _, found := slices.BinarySearch(before, fact); !found {
			differences = append(differences, "+ "+fact)
		}
	}
	if len(differences) > 0 {
		return fmt.Errorf("%s and %s differ in %d facts:\n%s", left, right, len(differences),
			strings.Join(differences[:min(20, len(differences))], "\n"))
	}
	fmt.Println("same")
	return nil
}

type sums struct {
	Flat int64 `json:"flat"`
	Cum  int64 `json:"cum"`
}

func totals(path string) error {
	p, err := read(path)
	if err != nil {
		return err
	}
	type column struct {
		Type      string           `json:"type"`
		Unit      string           `json:"unit"`
		Total     int64            `json:"total"`
		Functions map[string]*sums `json:"functions"`
	}
	columns := []column{}
	for position, sampleType := range p.SampleType {
		c := column{Type: sampleType.Type, Unit: sampleType.Unit, Functions: map[string]*sums{}}
		for _, sample := range p.Sample {
			value := sample.Value[position]
			c.Total += value
			seen := map[string]bool{}
			for depth, location := range sample.Location {
				for inline, line := range location.Line {
					name := line.Function.Name
					if c.Functions[name] == nil {
						c.Functions[name] = &sums{}
					}
					if depth == 0 && inline == 0 {
						c.Functions[name].Flat += value
					}
					if !seen[name] {
						c.Functions[name].Cum += value
						seen[name] = true
					}
				}
			}
		}
		columns = append(columns, c)
	}
	return json.NewEncoder(os.Stdout).Encode(columns)
}

// write makes files with what real writers do and many readers lose.
func write(directory string) error {
	function := func(id uint64, name, file string) *profile.Function {
		return &profile.Function{ID: id, Name: name, SystemName: "_Z" + name, Filename: file, StartLine: int64(id * 10)}
	}
	mappings := []*profile.Mapping{
		{ID: 1, Start: 0x400000, Limit: 0x500000, Offset: 0x1000, File: "/bin/app", BuildID: "aabbccddeeff00112233445566778899aabbccdd",
			HasFunctions: true, HasFilenames: true, HasLineNumbers: true, HasInlineFrames: true},
		{ID: 2, Start: 0x7f0000000000, Limit: 0x7f0000100000, File: "/lib/libc.so.6"},
		// No sample uses it; it must stay all the same.
		{ID: 3, Start: 0x7f0000200000, Limit: 0x7f0000300000, File: "/lib/unused.so", BuildID: "go-build/id/x"},
	}
	functions := []*profile.Function{
		function(1, "main", "app.c"), function(2, "work", "app.c"), function(3, "inlined", "app.h"),
		function(4, "grüße", "größe.c"),
	}
	locations := []*profile.Location{
		{ID: 10, Mapping: mappings[0], Address: 0x400100, Line: []profile.Line{
			{Function: functions[2], Line: 33, Column: 7}, {Function: functions[1], Line: 20, Column: 1}}},
		{ID: 7, Mapping: mappings[0], Address: 0x400200, Line: []profile.Line{{Function: functions[0], Line: 12}}},
		{ID: 1 << 40, Mapping: mappings[1], Address: 0x7f0000000123},
		{ID: 3, Address: 0, IsFolded: true, Line: []profile.Line{{Function: functions[3], Line: 1}}},
	}
	base := func() *profile.Profile {
		return &profile.Profile{Mapping: mappings, Function: functions, Location: locations}
	}

	cpu := base()
	cpu.SampleType = []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}}
	cpu.DefaultSampleType = "cpu"
	cpu.PeriodType, cpu.Period = &profile.ValueType{Type: "cpu", Unit: "nanoseconds"}, 10101010
	cpu.TimeNanos, cpu.DurationNanos = 1_700_000_000_123_456_789, 10_000_000_001
	cpu.Comments = []string{"first comment", "second, with a comma", ""}
	cpu.DropFrames, cpu.KeepFrames = "malloc|free", "mallocgc"
	cpu.DocURL = "https://example.com/cpu"
	cpu.Sample = []*profile.Sample{
		{Location: []*profile.Location{locations[0], locations[1]}, Value: []int64{3, 30303030},
			Label: map[string][]string{"thread": {"main"}, "request": {"α/β"}}},
		{Location: []*profile.Location{locations[2], locations[0], locations[1]}, Value: []int64{0, 5},
			NumLabel: map[string][]int64{"bytes": {4096}, "pid": {12}}, NumUnit: map[string][]string{"bytes": {"bytes"}, "pid": {""}}},
		{Location: []*profile.Location{locations[3]}, Value: []int64{1, 0}},
		{Value: []int64{2, 2}},
	}

	heap := base()
	heap.SampleType = []*profile.ValueType{
		{Type: "alloc_objects", Unit: "count"}, {Type: "alloc_space", Unit: "bytes"},
		{Type: "inuse_objects", Unit: "count"}, {Type: "inuse_space", Unit: "bytes"}}
	heap.PeriodType, heap.Period = &profile.ValueType{Type: "space", Unit: "bytes"}, 524288
	heap.Sample = []*profile.Sample{
		{Location: []*profile.Location{locations[0], locations[1]}, Value: []int64{10, 5120, 0, 0},
			NumLabel: map[string][]int64{"bytes": {512}}, NumUnit: map[string][]string{"bytes": {"bytes"}}},
		{Location: []*profile.Location{locations[1]}, Value: []int64{-1, -512, 1 << 40, 1<<62 - 1}},
	}

	plain := base()
	plain.SampleType = []*profile.ValueType{{Type: "events", Unit: "count"}}
	plain.Sample = []*profile.Sample{{Location: locations[:1], Value: []int64{7}}}

	empty := &profile.Profile{SampleType: []*profile.ValueType{{Type: "cpu", Unit: "nanoseconds"}}, Period: 1,
		PeriodType: &profile.ValueType{Type: "cpu", Unit: "nanoseconds"}}

	for name, p := range map[string]*profile.Profile{"cpu": cpu, "heap": heap, "plain": plain, "empty": empty} {
		if err := p.CheckValid(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		file, err := os.Create(filepath.Join(directory, name+".pb.gz"))
		if err != nil {
			return err
		}
		if err := p.Write(file); err != nil {
			return err
		}
		if err := file.Close(); err != nil {
			return err
		}
	}
	return nil
}
