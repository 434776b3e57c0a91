#!/bin/sh
# What the image holds, a line each: name and version.
dpkg-query -W -f '${Package} ${Version}\n' 2>/dev/null || rpm -qa --qf '%{NAME} %{VERSION}-%{RELEASE}\n'
