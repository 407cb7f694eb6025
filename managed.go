package muster

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A ManagedTemplate is a template that every account has (control-plane.md §2). Its document has
// ${aws:iot:parameter:NAME} placeholders, filled in when a job is made from it.
type ManagedTemplate struct {
	Name, Version, Description, Document string

	Environments []string
	Parameters   []TemplateParameter
}

// A TemplateParameter is a parameter of a managed template. A value must match Regex as a whole.
type TemplateParameter struct {
	Key, Description, Regex, Example string
	Optional                         bool
}

// ManagedTemplateVersion is the version of all managed templates, and the one meant when none is named.
const ManagedTemplateVersion = "1.0"

// anyText and the lengths below are the expressions that AWS's templates show.
const anyText = "(.*?)"

var (
	runAsUser = TemplateParameter{Key: "runAsUser", Regex: "(.){0,256}", Example: "user1", Optional: true,
		Description: "The user to run as. Without it, the user that the device's agent runs as."}
	pathToHandler = TemplateParameter{Key: "pathToHandler", Regex: "(.){0,4096}", Example: "/path/to/handlers", Optional: true,
		Description: "The directory of the handler on the device. Without it, the one that the device's agent is set to."}
)

var managedTemplates = []ManagedTemplate{
	handlerTemplate("Download-File", "download-file.sh", "Downloads a file to the device.",
		TemplateParameter{Key: "downloadUrl", Regex: anyText, Example: "https://www.example.com/index.html", Description: "The URL of the file."},
		TemplateParameter{Key: "filePath", Regex: anyText, Example: "/path/to/file", Description: "Where the device keeps the file."}),
	handlerTemplate("Install-Application", "install-packages.sh", "Installs one or more applications.", packagesParameter("install")),
	handlerTemplate("Reboot", "reboot.sh", "Reboots the device."),
	handlerTemplate("Remove-Application", "remove-packages.sh", "Removes one or more applications.", packagesParameter("remove")),
	handlerTemplate("Restart-Application", "restart-services.sh", "Restarts one or more system services.", servicesParameter("restart")),
	{
		Name: "AWS-Run-Command", Version: ManagedTemplateVersion, Environments: []string{"LINUX"},
		Description: "Runs a command.",
		Document: `{"version":"1.0","steps":[{"action":{"name":"Run-Command","type":"runCommand","input":{` +
			`"command":"${aws:iot:parameter:command}"},"runAsUser":"${aws:iot:parameter:runAsUser}"}}]}`,
		Parameters: []TemplateParameter{
			{Key: "command", Regex: anyText, Example: "echo,hello",
				Description: `The command and its arguments, separated by commas. A comma that belongs to one of them is written \,`},
			runAsUser,
		},
	},
	handlerTemplate("Start-Application", "start-services.sh", "Starts one or more system services.", servicesParameter("start")),
	handlerTemplate("Stop-Application", "stop-services.sh", "Stops one or more system services.", servicesParameter("stop")),
}

// handlerTemplate is a template whose document runs a handler script of the device with the
// parameters as its arguments.
func handlerTemplate(action, handler, description string, parameters ...TemplateParameter) ManagedTemplate {
	var args []string
	for _, p := range parameters {
		args = append(args, `"${aws:iot:parameter:`+p.Key+`}"`)
	}
	list := ""
	if args != nil {
		list = `"args":[` + strings.Join(args, ",") + `],`
	}
	return ManagedTemplate{
		Name: "AWS-" + action, Version: ManagedTemplateVersion, Description: description, Environments: []string{"LINUX"},
		Document: `{"version":"1.0","steps":[{"action":{"name":"` + action + `","type":"runHandler","input":{"handler":"` + handler + `",` +
			list + `"path":"${aws:iot:parameter:pathToHandler}"},"runAsUser":"${aws:iot:parameter:runAsUser}"}}]}`,
		Parameters: append(parameters, runAsUser, pathToHandler),
	}
}

func packagesParameter(verb string) TemplateParameter {
	return TemplateParameter{Key: "packages", Regex: anyText, Example: "git nodejs",
		Description: "The packages to " + verb + ", separated by spaces."}
}

func servicesParameter(verb string) TemplateParameter {
	return TemplateParameter{Key: "services", Regex: anyText, Example: "httpd sshd",
		Description: "The services to " + verb + ", separated by spaces."}
}

// ManagedTemplates are all managed templates, by name.
func ManagedTemplates() []ManagedTemplate {
	all := slices.Clone(managedTemplates)
	for i := range all {
		all[i].Environments = slices.Clone(all[i].Environments)
		all[i].Parameters = slices.Clone(all[i].Parameters)
	}
	slices.SortFunc(all, func(a, b ManagedTemplate) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// ManagedTemplateNamed is the managed template of that name and version; an empty version means the
// default one.
func ManagedTemplateNamed(name, version string) (ManagedTemplate, bool) {
	for _, t := range ManagedTemplates() {
		if t.Name == name && (version == "" || t.Version == version) {
			return t, true
		}
	}
	return ManagedTemplate{}, false
}

// Fill returns the document with the parameters put in. Optional ones that are not given become
// empty.
func (t ManagedTemplate) Fill(params Pairs) (string, error) {
	for key := range params.All() {
		if !slices.ContainsFunc(t.Parameters, func(p TemplateParameter) bool { return p.Key == key }) {
			return "", Errorf(Invalid, "documentParameters.%s is no parameter of %s; it must be one of %s", key, t.Name, t.keys())
		}
	}
	for _, p := range t.Parameters {
		value, given := params.Get(p.Key)
		if !given && !p.Optional {
			return "", Errorf(Invalid, "documentParameters.%s is missing; %s must have it", p.Key, t.Name)
		}
		if given && !p.matches(value) {
			return "", Errorf(Invalid, "documentParameters.%s is %q; it must match %s", p.Key, shortened(value), p.Regex)
		}
	}
	return Replace(t.Document, func(p Placeholder) (string, bool) {
		value, _ := params.Get(p.Arg)
		return value, p.Kind == PlaceholderParameter
	}), nil
}

func (t ManagedTemplate) keys() string {
	var keys []string
	for _, p := range t.Parameters {
		keys = append(keys, p.Key)
	}
	return strings.Join(keys, ", ")
}

// matches reports whether the whole value matches the parameter's regular expression. Some are
// (.){n,m} with counts beyond those that Go's expressions can have, so this form is read here.
func (p TemplateParameter) matches(value string) bool {
	if lo, hi, ok := lengthRegex(p.Regex); ok {
		n := utf8.RuneCountInString(value)
		// A dot matches no end of line, and there are more of those than \n.
		return n >= lo && n <= hi && !strings.ContainsAny(value, "\n\r\u0085\u2028\u2029")
	}
	re, err := regexp.Compile(`^(?:` + p.Regex + `)$`)
	return err == nil && re.MatchString(value)
}

// lengthRegex reads (.){lo,hi}.
func lengthRegex(s string) (lo, hi int, ok bool) {
	s, opens := strings.CutPrefix(s, "(.){")
	s, closes := strings.CutSuffix(s, "}")
	from, to, two := strings.Cut(s, ",")
	lo, err := strconv.Atoi(from)
	hi, err2 := strconv.Atoi(to)
	return lo, hi, opens && closes && two && err == nil && err2 == nil
}

// shortened is s as far as an error message should quote it.
func shortened(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	cut := most
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
