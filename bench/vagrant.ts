/** The same machine as a vagrant box, with vagrant-libvirt: made from our base image, without cloud-init. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Verb, Way } from './against.ts'
import { entry, finish } from './measure.ts'

/** `key` is vagrant's public key for boxes. */
const prepare = (key: string) => `set -e
useradd -m -s /bin/bash vagrant
echo 'vagrant ALL=(ALL) NOPASSWD:ALL' >/etc/sudoers.d/vagrant
mkdir -m 700 ~vagrant/.ssh
echo '${key}' >~vagrant/.ssh/authorized_keys
chown -R vagrant: ~vagrant/.ssh
touch /etc/cloud/cloud-init.disabled
sync
`
const FILE = `Vagrant.configure('2') do |config|
  config.vm.box = 'bench'
  config.vm.synced_folder '.', '/vagrant', disabled: true
  config.ssh.insert_key = false
  config.vm.boot_timeout = 600
  config.vm.provider :libvirt do |libvirt|
    libvirt.uri = 'qemu:///system'
    libvirt.driver = 'qemu'
    libvirt.cpu_mode = 'maximum'
    libvirt.cpus = 2
    libvirt.memory = 1024
    libvirt.machine_type = 'q35'
    libvirt.storage_pool_name = 'agent-swarm'
    libvirt.management_network_name = 'agent-swarm'
    libvirt.management_network_address = '__NETWORK__'
    libvirt.management_network_keep = true
  end
end
`
const words: Record<Verb, string[]> = {
  create: ['up', '--provider=libvirt'],
  checkpoint: ['snapshot', 'save', 'one'],
  list: ['global-status'],
  status: ['status'],
  restore: ['snapshot', 'restore', '--no-start', 'one'],
  delete: ['destroy', '-f'],
}

/** Makes the box, which takes minutes. */
export const openVagrant = async (home: string, environment: Record<string, string | undefined>): Promise<Way> => {
  const folder = join(home, 'vagrant')
  mkdirSync(folder)
  const settings = {
    ...environment,
    VAGRANT_HOME: join(home, 'vagrant.d'),
    LC_ALL: 'C.UTF-8',
    VAGRANT_CHECKPOINT_DISABLE: '1',
  }
  const run = async (file: string, words: string[]) => {
    const ran = await finish('sh', ['-c', 'cd "$0" && exec "$@"', folder, file, ...words], settings)
    if (ran.code !== 0) throw new Error(`${file} ${words.join(' ')}: ${ran.stderr}${ran.stdout}`)
    return ran.stdout
  }
  const swarm = (...words: string[]) => run(process.execPath, [entry, ...words])
  process.stderr.write('making a box for vagrant…\n')
  await swarm('create', 'BOX-1')
  const [gem = ''] = (await run('sh', ['-c', 'ls -d /usr/share/rubygems-integration/all/gems/vagrant-2*'])).split('\n')
  const script = prepare(readFileSync(join(gem, 'keys/vagrant.pub'), 'utf8').trim())
  await swarm('ssh', 'BOX-1', '--', `echo ${Buffer.from(script).toString('base64')} | base64 -d | sudo sh -s`)
  await swarm('stop', 'BOX-1')
  const [{ vmId }] = JSON.parse(await swarm('list', '--json'))
  await run('virsh', ['-q', 'vol-download', '--pool', 'agent-swarm', `${vmId}.qcow2`, 'overlay.qcow2'])
  await run('virsh', ['-q', 'vol-download', '--pool', 'agent-swarm', 'agent-swarm-base.qcow2', 'base.qcow2'])
  await run('qemu-img', ['rebase', '-q', '-u', '-b', 'base.qcow2', '-F', 'qcow2', 'overlay.qcow2'])
  await run('qemu-img', ['convert', '-O', 'qcow2', 'overlay.qcow2', 'box.img'])
  await swarm('delete', 'BOX-1', '--force')
  writeFileSync(
    join(folder, 'metadata.json'),
    JSON.stringify({ provider: 'libvirt', format: 'qcow2', virtual_size: 8 }),
  )
  const subnet = (await run('virsh', ['-q', 'net-dumpxml', 'agent-swarm'])).match(
    /<ip address=['"](\d+\.\d+\.\d+)\./,
  )?.[1]
  writeFileSync(join(folder, 'Vagrantfile'), FILE.replace('__NETWORK__', `${subnet}.0/24`))
  await run('tar', ['-czf', 'bench.box', 'metadata.json', 'Vagrantfile', 'box.img'])
  await run('vagrant', ['box', 'add', '--name', 'bench', 'bench.box'])
  return {
    name: 'vagrant with vagrant-libvirt',
    run: verb => finish('sh', ['-c', 'cd "$0" && exec vagrant "$@"', folder, ...words[verb]], settings),
    // vagrant-libvirt leaves the uploaded box in the pool.
    close: () =>
      run('sh', [
        '-c',
        "virsh -q vol-list agent-swarm | awk '/bench_vagrant_box_image/ { print $1 }' | xargs -r -n 1 virsh -q vol-delete --pool agent-swarm",
      ]),
  }
}
