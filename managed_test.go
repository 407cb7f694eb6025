package muster

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestManagedTemplatesAreThoseOfTheContract(t *testing.T) {
	want := map[string]string{ // name: handler, then what is beyond runAsUser and pathToHandler
		"AWS-Reboot":              "reboot.sh",
		"AWS-Download-File":       "download-file.sh downloadUrl filePath",
		"AWS-Install-Application": "install-packages.sh packages",
		"AWS-Remove-Application":  "remove-packages.sh packages",
		"AWS-Start-Application":   "start-services.sh services",
		"AWS-Stop-Application":    "stop-services.sh services",
		"AWS-Restart-Application": "restart-services.sh services",
		"AWS-Run-Command":         " command",
	}
	all := ManagedTemplates()
	if len(all) != len(want) {
		t.Errorf("there are %d templates; want %d", len(all), len(want))
	}
	if !slices.IsSortedFunc(all, func(a, b ManagedTemplate) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("they are not sorted by name")
	}
	description := regexp.MustCompile(`^[^\p{C}]+$`)
	for _, m := range all {
		var document struct {
			Version string
			Steps   []struct {
				Action struct {
					Name, Type, RunAsUser string
					Input                 struct {
						Handler, Path, Command string
						Args                   []string
					}
				}
			}
		}
		if err := CheckDocument(m.Document); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
		if err := json.Unmarshal([]byte(m.Document), &document); err != nil || len(document.Steps) != 1 {
			t.Fatalf("%s: %v", m.Name, err)
		}
		got := document.Steps[0].Action.Input.Handler
		var inDocument, declared []string
		for _, p := range Placeholders(m.Document) {
			if p.Kind != PlaceholderParameter {
				t.Errorf("%s has a placeholder %s", m.Name, p.Kind)
			}
			inDocument = append(inDocument, p.Arg)
		}
		for _, p := range m.Parameters {
			declared = append(declared, p.Key)
			common := p.Key == "runAsUser" || p.Key == "pathToHandler"
			if p.Optional != common || !description.MatchString(p.Description) || !p.matches(p.Example) {
				t.Errorf("%s: parameter %+v", m.Name, p)
			}
			if !common {
				got += " " + p.Key
			}
		}
		if got != want[m.Name] {
			t.Errorf("%s is %q; want %q", m.Name, got, want[m.Name])
		}
		slices.Sort(inDocument)
		slices.Sort(declared)
		if !slices.Equal(inDocument, declared) {
			t.Errorf("%s uses %v and declares %v", m.Name, inDocument, declared)
		}
		if m.Version != "1.0" || !slices.Equal(m.Environments, []string{"LINUX"}) || !description.MatchString(m.Description) || "AWS-"+document.Steps[0].Action.Name != m.Name {
			t.Errorf("%+v", m)
		}
	}
	const download = `{"version":"1.0","steps":[{"action":{"name":"Download-File","type":"runHandler","input":{"handler":"download-file.sh",` +
		`"args":["${aws:iot:parameter:downloadUrl}","${aws:iot:parameter:filePath}"],"path":"${aws:iot:parameter:pathToHandler}"},"runAsUser":"${aws:iot:parameter:runAsUser}"}}]}`
	if m, _ := ManagedTemplateNamed("AWS-Download-File", ""); m.Document != download {
		t.Errorf("document is\n%s\nwant\n%s", m.Document, download)
	}
}

func TestManagedTemplateNamed(t *testing.T) {
	for _, c := range []struct {
		name, version string
		want          bool
	}{{"AWS-Reboot", "", true}, {"AWS-Reboot", "1.0", true}, {"AWS-Reboot", "2.0", false}, {"Reboot", "", false}, {"aws-reboot", "", false}, {"", "", false}} {
		if m, ok := ManagedTemplateNamed(c.name, c.version); ok != c.want || ok && m.Name != c.name {
			t.Errorf("%s:%s is %v, %s", c.name, c.version, ok, m.Name)
		}
	}
	// What is handed out is the caller's own.
	ManagedTemplates()[0].Parameters[0].Key = "changed"
	if ManagedTemplates()[0].Parameters[0].Key == "changed" {
		t.Error("a caller changed the templates of everybody")
	}
}

func TestFill(t *testing.T) {
	const reboot = `{"version":"1.0","steps":[{"action":{"name":"Reboot","type":"runHandler","input":{"handler":"reboot.sh","path":"%"},"runAsUser":"#"}}]}`
	rebooted := func(path, user string) string { return strings.NewReplacer("%", path, "#", user).Replace(reboot) }
	for _, c := range []struct {
		name, template string
		params         Pairs
		want, wrong    string
	}{
		{"no parameters", "AWS-Reboot", "", rebooted("", ""), ""},
		{"some of the optional ones", "AWS-Reboot", MakePairs("runAsUser", "ada"), rebooted("", "ada"), ""},
		{"values that need escapes", "AWS-Reboot", MakePairs("pathToHandler", `C:\"x"`, "runAsUser", "${aws:iot:parameter:pathToHandler}"), rebooted(`C:\\\"x\"`, "${aws:iot:parameter:pathToHandler}"), ""},
		{"an optional one given empty", "AWS-Reboot", MakePairs("runAsUser", ""), rebooted("", ""), ""},
		{"as long as allowed", "AWS-Reboot", MakePairs("runAsUser", strings.Repeat("ü", 256)), rebooted("", strings.Repeat("ü", 256)), ""},
		{"a command", "AWS-Run-Command", MakePairs("command", "echo,a b"), `{"version":"1.0","steps":[{"action":{"name":"Run-Command","type":"runCommand","input":{"command":"echo,a b"},"runAsUser":""}}]}`, ""},
		{"longer than allowed", "AWS-Reboot", MakePairs("runAsUser", strings.Repeat("a", 257)), "", `documentParameters.runAsUser is "` + strings.Repeat("a", 64) + `…"; it must match (.){0,256}`},
		{"two lines where there is one", "AWS-Reboot", MakePairs("runAsUser", "a\nb"), "", `documentParameters.runAsUser is "a\nb"; it must match (.){0,256}`},
		{"two lines where there is any text", "AWS-Run-Command", MakePairs("command", "a\nb"), "", `documentParameters.command is "a\nb"; it must match (.*?)`},
		{"one missing", "AWS-Download-File", MakePairs("downloadUrl", "https://h/"), "", "documentParameters.filePath is missing; AWS-Download-File must have it"},
		{"an unknown one", "AWS-Reboot", MakePairs("delay", "5"), "", "documentParameters.delay is no parameter of AWS-Reboot; it must be one of runAsUser, pathToHandler"},
		{"one of another template", "AWS-Run-Command", MakePairs("command", "a", "pathToHandler", "/"), "", "documentParameters.pathToHandler is no parameter of AWS-Run-Command; it must be one of command, runAsUser"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, ok := ManagedTemplateNamed(c.template, "")
			if !ok {
				t.Fatal("no such template")
			}
			got, err := m.Fill(c.params)
			wantInvalid(t, err, c.wrong)
			if got != c.want {
				t.Errorf("document is %s\nwant        %s", got, c.want)
			}
			if err == nil && CheckDocument(got) != nil {
				t.Error("is no document")
			}
		})
	}
}

func TestParametersMatchAsAWhole(t *testing.T) {
	for _, c := range []struct {
		regex, value string
		want         bool
	}{
		{"(.){2,3}", "a", false}, {"(.){2,3}", "ab", true}, {"(.){2,3}", "abcd", false}, {"(.){0,4096}", strings.Repeat("a", 4096), true}, {"(.){0,4096}", strings.Repeat("a", 4097), false},
		{"(.){0,3}", "a\u2028", false}, {"(.*?)", "", true}, {"(.*?)", "abc", true}, {"[0-9]+", "12", true}, {"[0-9]+", "12a", false}, {"[0-9]+", "12\n", false}, {"a|b", "ab", false}, {"(", "(", false},
	} {
		if got := (TemplateParameter{Regex: c.regex}).matches(c.value); got != c.want {
			t.Errorf("%.20q matches %s: %v", c.value, c.regex, got)
		}
	}
}
