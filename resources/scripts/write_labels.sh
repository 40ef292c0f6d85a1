#!/bin/sh
# Initialise the labels of all DIMMs, as a guest does when it creates a namespace.
ndctl disable-region all && ndctl init-labels -f all && ndctl enable-region all
