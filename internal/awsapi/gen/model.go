package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// model is the part of an AWS model file that is used here.
type model struct {
	Operations map[string]*operation `json:"operations"`
	Shapes     map[string]*shape     `json:"shapes"`
}

type operation struct {
	HTTP struct {
		Method       string `json:"method"`
		RequestURI   string `json:"requestUri"`
		ResponseCode int    `json:"responseCode"`
	} `json:"http"`
	Input  *ref `json:"input"`
	Output *ref `json:"output"`
}

type ref struct {
	Shape        string `json:"shape"`
	Location     string `json:"location"`
	LocationName string `json:"locationName"`
}

type shape struct {
	Type     string   `json:"type"`
	Required []string `json:"required"`
	Members  members  `json:"members"`
	Member   *ref     `json:"member"`
	Key      *ref     `json:"key"`
	Value    *ref     `json:"value"`
	Min      *float64 `json:"min"`
	Max      *float64 `json:"max"`
	Pattern  string   `json:"pattern"`
	Enum     []string `json:"enum"`
}

// members keeps the order of the model, in which violations are told.
type members []member

type member struct {
	Name string
	ref
}

func (m *members) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if _, err := d.Token(); err != nil {
		return err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		one := member{Name: name.(string)}
		if err := d.Decode(&one.ref); err != nil {
			return err
		}
		*m = append(*m, one)
	}
	return nil
}

func (s *shape) requires(member string) bool { return slices.Contains(s.Required, member) }

// wireName is the member's name in JSON, in the query or in the path.
func (m member) wireName() string {
	if m.LocationName != "" {
		return m.LocationName
	}
	return m.Name
}

func parseModel(data []byte, amend map[string]amendment) (*model, error) {
	var m model
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, err
	}
	for name, a := range amend {
		s := m.Shapes[name]
		if s == nil {
			return nil, fmt.Errorf("amended shape %s is not in the model", name)
		}
		if a.min != 0 && s.Min == nil {
			s.Min = &a.min
		}
		if a.max != 0 && s.Max == nil {
			s.Max = &a.max
		}
		if a.open {
			s.Max = nil
		}
	}
	return &m, nil
}
