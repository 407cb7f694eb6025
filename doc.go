// Package muster holds what a job, an execution, a thing and a group are and how they may change.
// Nothing in it waits, reads a clock, or touches a disk or a network: every rule is a plain
// function of values and of the moment it is given.
//
// Words: a job is sent to targets (things and thing groups); every thing that a target reaches gets
// an execution of the job; a thing's pending executions are its queue; a report is what a device
// says about an execution.
package muster
