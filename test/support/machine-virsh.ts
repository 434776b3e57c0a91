/** A virsh that is a script, with one machine of a user's own libvirt, whose SSH server is at a port of this host. */
import { chmodSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Files in the folder say what the machine is: `running`, and `saved` when its memory is. */
export const machineVirsh = (
  folder: string,
  { vmId, ticket, home, port }: Record<'vmId' | 'ticket' | 'home', string> & { port: number },
) => {
  mkdirSync(folder, { recursive: true })
  const file = (name: string) => join(folder, name)
  writeFileSync(
    file('virsh'),
    `#!/bin/sh
cd '${folder}' || exit 1
case "$*" in *domstats*) if [ -e running ]; then state=1; else state=5; fi
  printf "Domain: '${vmId}'\\n  state.state=$state\\n  state.reason=1\\n" ;; esac
case "$*" in *metadata*) echo '<vm name="${vmId}" ticket="${ticket}" home="${home}" mac="52:54:00:00:00:01" port="${port}"/>' ;; esac
case "$*" in *dominfo*) [ ! -e saved ] || echo 'Managed save:   yes' ;; esac
case "$*" in *--with-managed-save*) [ ! -e saved ] || echo '${vmId}' ;; esac
case "$*" in *domjobinfo*) echo 'Job type:         None' ;; esac
case "$*" in *net-info*) echo 'Active:         yes' ;; esac
case "$*" in *dumpxml*) echo '<domain/>' ;; esac
case "$*" in
  *force-boot*) rm -f saved; touch running ;;
  *' start '*) rm -f saved; touch running; echo "$*" >>starts ;;
esac
exit 0
`,
  )
  chmodSync(file('virsh'), 0o755)
  const set = (name: string, value: boolean) => {
    rmSync(file(name), { force: true })
    if (value) writeFileSync(file(name), '')
  }
  return {
    set: (state: { running: boolean; saved: boolean }) => {
      set('running', state.running)
      set('saved', state.saved)
    },
    isRunning: () => existsSync(file('running')),
  }
}
