package awsapi

import (
	"muster"
	"muster/internal/awsapi/iot"
	"muster/internal/awsapi/wire"
)

// describeEndpoint answers the same for every type there is: one address serves them all.
func (c *call) describeEndpoint(in *iot.DescribeEndpointInput) (wire.Output, error) {
	switch text(in.EndpointType) {
	case "", "iot:Data", "iot:Data-ATS", "iot:CredentialProvider", "iot:Jobs":
	default:
		return nil, muster.Errorf(muster.Invalid, "endpointType is %q; it must be iot:Data, iot:Data-ATS, iot:CredentialProvider or iot:Jobs", *in.EndpointType)
	}
	host := c.config.Endpoint
	if host == "" {
		host = c.host
	}
	return &iot.DescribeEndpointOutput{EndpointAddress: &host}, nil
}
