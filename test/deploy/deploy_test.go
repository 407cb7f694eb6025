// Package deploy_test holds what is in deploy/ against the program and against itself: variables that there are,
// ports, labels and files that meet, a unit that systemd takes, settings with which a server comes up.
package deploy_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"muster/test/process"
)

func TestMain(m *testing.M) { process.Main(m) }

const root = "../../deploy/"

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(root + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// An object is a part of a YAML document.
type object map[string]any

// at follows a path such as spec.template.metadata.labels; numbers are places in a list. nil: there is nothing.
func at(in any, path string) any {
	for step := range strings.SplitSeq(path, ".") {
		switch v := in.(type) {
		case object:
			in = v[step]
		case map[string]any:
			in = v[step]
		case []any:
			var i int
			if _, err := fmt.Sscan(step, &i); err != nil || i >= len(v) {
				return nil
			}
			in = v[i]
		default:
			return nil
		}
	}
	return in
}

func text(in any, path string) string {
	if v := at(in, path); v != nil {
		return fmt.Sprint(v)
	}
	return ""
}

func documents(t *testing.T, name string) (all []object) {
	t.Helper()
	d := yaml.NewDecoder(strings.NewReader(read(t, name)))
	for {
		var o object
		err := d.Decode(&o)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all = append(all, o)
	}
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %v, not %v", what, got, want)
	}
}

// Every variable that a file sets is one that the program reads.
func TestVariables(t *testing.T) {
	binary, err := process.Binary()
	if err != nil {
		t.Fatal(err)
	}
	help, err := exec.Command(binary, "serve", "--help").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, help)
	}
	variable := regexp.MustCompile(`MUSTER_[A-Z0-9_]+`)
	known := variable.FindAllString(string(help), -1)
	err = filepath.WalkDir(root, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		for _, v := range variable.FindAllString(string(text), -1) {
			if !slices.Contains(known, v) {
				t.Errorf("%s: muster serve reads no %s", name, v)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestKubernetes(t *testing.T) {
	kustomization := documents(t, "kubernetes/kustomization.yaml")[0]
	files, err := filepath.Glob(root + "kubernetes/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	byKind := map[string][]object{}
	for _, file := range files {
		name := filepath.Base(file)
		if name == "kustomization.yaml" {
			continue
		}
		if listed := strings.Replace(name, ".example", "", 1); !slices.Contains(at(kustomization, "resources").([]any), any(listed)) {
			t.Errorf("kustomization.yaml does not list %s", listed)
		}
		for _, o := range documents(t, "kubernetes/"+name) {
			byKind[text(o, "kind")] = append(byKind[text(o, "kind")], o)
		}
	}
	for kind, version := range map[string]string{"Deployment": "apps/v1", "Service": "v1", "PodDisruptionBudget": "policy/v1", "ConfigMap": "v1", "Secret": "v1", "Namespace": "v1"} {
		if len(byKind[kind]) == 0 {
			t.Fatalf("there is no %s", kind)
		}
		for _, o := range byKind[kind] {
			same(t, kind, text(o, "apiVersion"), version)
		}
	}
	deployment, config, secret := byKind["Deployment"][0], byKind["ConfigMap"][0], byKind["Secret"][0]
	pod := at(deployment, "spec.template.spec")
	labels := at(deployment, "spec.template.metadata.labels")
	same(t, "the deployment's selector", at(deployment, "spec.selector.matchLabels"), labels)
	same(t, "the budget's selector", at(byKind["PodDisruptionBudget"][0], "spec.selector.matchLabels"), labels)
	same(t, "replicas", text(deployment, "spec.replicas"), "3")
	same(t, "replicas that may be away", text(byKind["PodDisruptionBudget"][0], "spec.maxUnavailable"), "1")
	same(t, "the image that is replaced", text(kustomization, "images.0.name"), text(pod, "containers.0.image"))

	ports := map[string]string{}
	for _, p := range at(pod, "containers.0.ports").([]any) {
		ports[text(p, "name")] = text(p, "containerPort")
	}
	for name, variable := range map[string]string{"http": "MUSTER_HTTP", "mqtts": "MUSTER_MQTTS", "https-data": "MUSTER_HTTPS_DATA"} {
		same(t, variable, text(config, "data."+variable), ":"+ports[name])
	}
	// Without a host it would listen on the pod's loopback, for it asks nobody who they are.
	same(t, "metrics", text(config, "data.MUSTER_METRICS"), "0.0.0.0:"+ports["metrics"])
	same(t, "what Prometheus scrapes", at(deployment, "spec.template.metadata.annotations").(object)["prometheus.io/port"], ports["metrics"])
	for _, service := range byKind["Service"] {
		same(t, "a service's selector", at(service, "spec.selector"), labels)
		for _, p := range at(service, "spec.ports").([]any) {
			if ports[text(p, "targetPort")] == "" {
				t.Errorf("%s: no container has the port %s", text(service, "metadata.name"), text(p, "targetPort"))
			}
		}
	}
	for probe, path := range map[string]string{"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"} {
		same(t, probe, text(pod, "containers.0."+probe+".httpGet.path"), path)
		same(t, probe, text(pod, "containers.0."+probe+".httpGet.port"), "http")
	}
	same(t, "variables come from", text(pod, "containers.0.envFrom.0.configMapRef.name"), text(config, "metadata.name"))
	same(t, "files come from", text(pod, "volumes.0.secret.secretName"), text(secret, "metadata.name"))
	same(t, "the store comes from", text(pod, "containers.0.env.0.valueFrom.secretKeyRef.name"), text(secret, "metadata.name"))
	files = nil
	for _, v := range append(slices.Collect(maps.Values(at(config, "data").(object))), at(secret, "stringData.store")) {
		files = append(files, regexp.MustCompile(`/etc/muster/[a-z.-]+`).FindAllString(fmt.Sprint(v), -1)...)
	}
	if len(files) != 5 {
		t.Errorf("files: %q", files)
	}
	secrets := at(secret, "stringData").(object)
	for _, file := range append(files, "store") {
		if secrets[filepath.Base(file)] == nil {
			t.Errorf("no secret is the file %s", file)
		}
	}
	same(t, "files are at", text(pod, "containers.0.volumeMounts.0.mountPath"), "/etc/muster")

	var grace, rest int
	fmt.Sscan(text(pod, "terminationGracePeriodSeconds"), &grace)
	fmt.Sscan(text(pod, "containers.0.lifecycle.preStop.sleep.seconds"), &rest)
	if grace < rest+20 {
		t.Errorf("a pod is killed after %d seconds, of which it sleeps %d: requests may take ten, goodbyes some", grace, rest)
	}
	for path, want := range map[string]string{
		"securityContext.runAsNonRoot": "true", "securityContext.seccompProfile.type": "RuntimeDefault", "automountServiceAccountToken": "false",
		"containers.0.securityContext.allowPrivilegeEscalation": "false", "containers.0.securityContext.readOnlyRootFilesystem": "true",
		"containers.0.securityContext.capabilities.drop": "[ALL]",
	} {
		same(t, path, text(pod, path), want)
	}
	comesUp(t, at(config, "data").(object))
}

func TestCompose(t *testing.T) {
	compose := documents(t, "compose/compose.yaml")[0]
	services, secrets := at(compose, "services").(object), at(compose, "secrets").(object)
	proxy := read(t, "compose/haproxy.cfg")
	nodes, built := 0, 0
	for name := range services {
		if !strings.HasPrefix(name, "muster-") {
			continue
		}
		nodes++
		node := services[name].(object)
		for _, s := range at(node, "secrets").([]any) {
			if secrets[s.(string)] == nil {
				t.Errorf("%s: there is no secret %s", name, s)
			}
		}
		for key, value := range at(node, "environment").(object) {
			if file, ok := strings.CutPrefix(fmt.Sprint(value), "/run/secrets/"); ok && !slices.Contains(at(node, "secrets").([]any), any(file)) {
				t.Errorf("%s: %s is no secret of the service", name, key)
			}
		}
		same(t, "it waits for PostgreSQL", text(node, "depends_on.postgres.condition"), "service_healthy")
		for _, line := range []string{"server " + name + " " + name + text(node, "environment.MUSTER_HTTP") + "\n",
			"server " + name + " " + name + text(node, "environment.MUSTER_MQTTS") + " port 8080\n"} {
			if !strings.Contains(proxy, line) {
				t.Errorf("haproxy.cfg has no %q", line)
			}
		}
		same(t, "its image", text(node, "image"), "muster")
		if node["build"] != nil { // for all of them
			built++
			if _, err := os.Stat(root + "compose/" + text(node, "build.context") + "/" + text(node, "build.dockerfile")); err != nil {
				t.Error(err)
			}
		}
		if nodes == 1 {
			comesUp(t, at(node, "environment").(object))
		}
	}
	same(t, "nodes", nodes, 3)
	same(t, "nodes whose image is built", built, 1)
	for _, p := range at(services["haproxy"], "ports").([]any) {
		_, inside, _ := strings.Cut(p.(string), ":")
		if !strings.Contains(proxy, "bind :"+inside+"\n") {
			t.Errorf("haproxy.cfg does not bind %s", inside)
		}
	}
}

func TestContainerfile(t *testing.T) {
	file := read(t, "container/Containerfile")
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^ARG GO=(.*)$`).FindStringSubmatch(file)
	if version == nil || !bytes.Contains(mod, []byte("\ngo "+version[1]+".")) {
		t.Errorf("it is built with Go %q, which is not that of go.mod", version)
	}
	from := regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(file, -1)
	same(t, "what it stands on", from[len(from)-1][1], "scratch")
	for _, line := range []string{"CGO_ENABLED=0", "USER 65532", `CMD ["/muster", "ready"]`, `ENTRYPOINT ["/muster"]`} {
		if !strings.Contains(file, line) {
			t.Errorf("there is no %s", line)
		}
	}
}

// A server comes up with the settings of the unit, and systemd takes it.
func TestSystemd(t *testing.T) {
	unit := read(t, "systemd/muster.service")
	settings := object{}
	for line := range strings.Lines(read(t, "systemd/muster.env")) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(line, "#") {
			settings[key] = value
		}
	}
	comesUp(t, settings)

	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		message := "systemd-analyze IS MISSING, so the unit is not verified: apt-get install systemd"
		if os.Getenv("MUSTER_REQUIRE_CLIENTS") == "1" {
			t.Fatal(message)
		}
		t.Log(message)
		return
	}
	binary, err := process.Binary()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "muster.service")
	if err := os.WriteFile(file, []byte(strings.Replace(unit, "/usr/local/bin/muster", binary, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(analyze, "verify", file).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("verify: %v\n%s", err, out)
	}
	if out, err := exec.Command(analyze, "security", "--offline=true", "--threshold=15", file).CombinedOutput(); err != nil {
		t.Errorf("it is exposed more than it was: %v\n%s", err, out)
	}
}

// comesUp runs a server with such variables, on free ports of loopback, over a store in memory, with files made for it.
func comesUp(t *testing.T, variables object) {
	t.Helper()
	binary, err := process.Binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, what := range []string{"server", "device"} {
		args := []string{"cert", what, "--dir", dir}
		if what == "device" {
			args = append(args, "lamp")
		}
		if out, err := exec.Command(binary, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	keys := filepath.Join(dir, "keys.json")
	if err := os.WriteFile(keys, []byte(`{"keys":[{"accessKeyId":"AKIAOPERATOR","secretAccessKey":"x"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"MUSTER_CREDENTIALS": keys, "MUSTER_TLS_CERT": filepath.Join(dir, "server.pem"), "MUSTER_TLS_KEY": filepath.Join(dir, "server.key"),
		"MUSTER_CLIENT_CA": filepath.Join(dir, "ca.pem")}
	flags := []string{"--store", "memory"}
	open := 0
	for key, value := range variables {
		value := fmt.Sprint(value)
		switch {
		case key == "MUSTER_STORE":
			continue
		case files[key] != "":
			value = files[key]
		case regexp.MustCompile(`^[0-9.]*:[0-9]+$`).MatchString(value):
			value = "127.0.0.1:0"
			open++
		}
		flags = append(flags, "--"+strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(key, "MUSTER_")), "_", "-")+"="+value)
	}
	p := process.Launch(t, flags...)
	defer p.Stop(t)
	same(t, "listeners", len(p.Addrs), open)
	r, err := http.Get(p.URL + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	same(t, "readyz", r.StatusCode, 200)
	if out, err := exec.Command(binary, "ready", "--endpoint", p.URL).CombinedOutput(); err != nil || string(out) != "ready\n" {
		t.Errorf("muster ready: %v\n%s", err, out)
	}
	// Who does not sign is nobody.
	if r, err = http.Get(p.URL + "/jobs"); err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	same(t, "a request without a signature", r.StatusCode, 403)
}
