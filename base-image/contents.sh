#!/bin/sh
# Lists the packages of the image, one a line: name and version.
dpkg-query -W -f '${Package} ${Version}\n' 2>/dev/null || rpm -qa --qf '%{NAME} %{VERSION}-%{RELEASE}\n'
