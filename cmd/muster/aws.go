package main

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/iot"
)

// anyServer is which service a command asks, and as whom, through the AWS SDK: a server of ours or AWS.
type anyServer struct {
	Endpoint string `placeholder:"URL|aws" default:"http://127.0.0.1:8080" env:"MUSTER_ENDPOINT_URL" help:"The service: the URL of a running server, or aws for AWS itself in --region, with the credentials that AWS's own tools would use (default ${default})."`
	signing
}

// theirs is the endpoint that stands for AWS itself.
const theirs = "aws"

func (s *anyServer) isAWS() bool { return s.Endpoint == theirs }

const (
	// AWS throttles the control plane: a command waits rather than fail. A server of ours is there or is not.
	attemptsAtAWS = 8
	attempts      = 2
	maxBackoff    = 5 * time.Second
)

// config is what clients of the AWS SDK need.
func (s *anyServer) config(ctx context.Context) (aws.Config, error) {
	n := attempts
	if s.isAWS() {
		n = attemptsAtAWS
	}
	retryer := func() aws.Retryer {
		return retry.AddWithMaxBackoffDelay(retry.AddWithMaxAttempts(retry.NewStandard(), n), maxBackoff)
	}
	if s.isAWS() && s.AccessKeyID == "" {
		c, err := config.LoadDefaultConfig(ctx, config.WithRegion(s.Region), config.WithRetryer(retryer))
		if err != nil {
			return c, fmt.Errorf("the settings of AWS's tools cannot be read: %w", err)
		}
		return c, nil
	}
	keys := aws.Credentials{AccessKeyID: s.AccessKeyID, SecretAccessKey: s.SecretAccessKey, SessionToken: s.SessionToken}
	if keys.AccessKeyID == "" {
		// Where nobody looks at signatures there must be one all the same: it says which plane is meant.
		keys.AccessKeyID, keys.SecretAccessKey = "any", "any"
	}
	c := aws.Config{Region: s.Region, Retryer: retryer,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return keys, nil })}
	if !s.isAWS() {
		c.BaseEndpoint = &s.Endpoint
	}
	return c, nil
}

// control is a client of the control plane.
func (s *anyServer) control(ctx context.Context) (*iot.Client, error) {
	c, err := s.config(ctx)
	if err != nil {
		return nil, err
	}
	return iot.NewFromConfig(c), nil
}
