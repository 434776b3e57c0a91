/** The Python that guests, the host and the namespaces send and receive packets with. */

/** Arguments: the file for what arrives, a name, and the ports, on every address, by TCP and UDP. */
export const arrive = `
import select, socket, sys
path, name, ports = sys.argv[1], sys.argv[2], [int(port) for port in sys.argv[3:]]
out = open(path, "ab", buffering=0)
servers = []
for port in ports:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        s = socket.socket(socket.AF_INET, kind)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("0.0.0.0", port))
        if kind == socket.SOCK_STREAM: s.listen(50)
        servers.append(s)
out.write(("ready " + name + "\\n").encode())
clients = []
while True:
    for s in select.select(servers + clients, [], [])[0]:
        if s in clients:
            data = s.recv(200)
            if data: out.write(data + b"\\n")
            else:
                clients.remove(s); s.close()
        elif s.type == socket.SOCK_STREAM: clients.append(s.accept()[0])
        else: out.write(s.recv(200) + b"\\n")
`

/**
 * Every frame that a guest sends, as it leaves the guest: before the bridge and its filters. Arguments: the file for the lines, of
 * interface, MAC and, for IPv4 and ARP, the sender's address.
 */
export const capture = `
import socket, sys
out = open(sys.argv[1], "a", buffering=1)
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
out.write("ready\\n")
while True:
    data, (name, protocol, kind, _, _) = s.recvfrom(2000)
    if kind == 4 or not name.startswith("vnet"): continue
    at = 26 if data[12:14] == b"\\x08\\0" else 28 if data[12:14] == b"\\x08\\6" else None
    address = "" if at is None else socket.inet_ntoa(data[at:at + 4])
    out.write(" ".join([name, data[6:12].hex(":"), address]).rstrip() + "\\n")
`

/** Functions. A guest gets them before the lines that call them. */
export const guest = `
import fcntl, os, select, socket, struct, subprocess, sys, threading, time
SNIFFED = "/tmp/sniffed"
threads = []
def send(token, protocol, address, port, source):
    def work():
        s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        s.settimeout(4)
        try:
            if source: s.bind(("", source))
            s.connect((address, port))
            s.send(token.encode())
        except OSError: pass
        if protocol == "tcp": time.sleep(0.5)
        s.close()
    thread = threading.Thread(target=work); thread.start(); threads.append(thread)
def finish():
    for thread in threads: thread.join()
    time.sleep(0.5)
def ask(protocol, address, port):
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    s.settimeout(3)
    try:
        s.connect((address, port)); s.send(b"?"); return s.recv(20).decode()
    except OSError: return "no answer"
def ping(address):
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP); s.settimeout(1)
    for number in range(5):
        body = struct.pack("!BBHHH", 8, 0, 0, os.getpid() & 0xffff, number) + b"are you there"
        s.sendto(body[:2] + struct.pack("!H", checksum(body + b"\\0")) + body[4:], (address, 0))
        try:
            while True:
                data, sender = s.recvfrom(200)
                if sender[0] == address and data[20] == 0 and data[24:26] == body[4:6]: print("pong"); return
        except OSError: pass
    print("no pong")
def behind(work):
    if os.fork(): return
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for n in (0, 1, 2): os.dup2(null, n)
    work(); os._exit(0)
def serve(port):
    def work():
        t = socket.socket(); t.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); t.bind(("", port)); t.listen(9)
        u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("", port))
        while True:
            for s in select.select([t, u], [], [])[0]:
                if s is u: s.sendto(b"served", s.recvfrom(9)[1])
                else:
                    client = s.accept()[0]; client.send(b"served"); client.close()
    behind(work)
def dns(gateway):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)
    s.sendto(b"\\0\\1\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\4host\\0\\0\\1\\0\\1", (gateway, 53))
    print("dns answered" if s.recv(500)[:2] == b"\\0\\1" else "dns failed")
def device():
    return [name for name in os.listdir("/sys/class/net") if name != "lo"][0]
def raw():
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)); s.bind((device(), 3)); return s
def mac_bytes(text): return bytes.fromhex(text.replace(":", ""))
def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
def udp_packet(source, target, ports, payload):
    udp = struct.pack("!HHHH", ports[0], ports[1], 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, socket.inet_aton(source), socket.inet_aton(target))
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + udp
def dhcp(mac):
    s = raw(); s.settimeout(1)
    body = b"\\1\\1\\6\\0" + b"mine" + b"\\0\\0\\x80\\0" + bytes(16) + mac_bytes(mac) + bytes(202) + b"\\x63\\x82\\x53\\x63\\x35\\1\\1" + b"\\x3d\\7\\1" + mac_bytes(mac) + b"\\xff"
    frame = b"\\xff" * 6 + mac_bytes(mac) + b"\\x08\\0" + udp_packet("0.0.0.0", "255.255.255.255", (68, 67), body)
    for _ in range(10):
        s.send(frame)
        end = time.time() + 2
        while time.time() < end:
            try: data = s.recv(2000)
            except OSError: break
            if data[12:14] == b"\\x08\\0" and data[34:36] == b"\\0\\x43" and data[46:50] == b"mine":
                print("dhcp offers " + socket.inet_ntoa(data[58:62])); return
    print("dhcp offers nothing")
def sniff():
    subprocess.run(["pkill", "-f", "sniffer-of-test"])
    open(SNIFFED, "w").close()
    def work():
        s = raw(); out = open(SNIFFED, "ab", buffering=0)
        while True:
            data = s.recv(2000)
            out.write(data.hex().encode() + b"\\n")
    behind(work); time.sleep(0.5)
def frames_seen(): return [bytes.fromhex(line) for line in open(SNIFFED).read().split("\\n")[:-1]]
def sniffed(token):
    print(any(token.encode() in frame for frame in frames_seen()))
def sniffed_from(mac):
    print(any(frame[6:12] == mac_bytes(mac) for frame in frames_seen()))
def broadcast(token):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    s.sendto(token.encode(), ("255.255.255.255", 67)); s.close()
def frames(token, mac, to_mac, ip, to_ip):
    s = raw(); me, other, all_ = mac_bytes(mac), mac_bytes(to_mac), b"\\xff" * 6
    arp = lambda operation: b"\\0\\1\\x08\\0\\6\\4" + struct.pack("!H", operation) + me + socket.inet_aton(ip) + other + socket.inet_aton(to_ip) + token.encode()
    dhcp_answer = udp_packet(ip, "255.255.255.255", (67, 68), token.encode())
    advert = struct.pack("!IHBB", 0x60000000, 24, 58, 255) + bytes.fromhex("fe80" + "00" * 13 + "01" + "ff02" + "00" * 13 + "01") + b"\\x86\\0\\0\\0\\x40\\0\\7\\x08" + token.encode()
    for target in (other, all_):
        for kind, payload in (
            (0x0800, udp_packet(ip, to_ip, (9, 9), token.encode())),
            (0x0806, arp(1)), (0x0806, arp(2)), (0x0800, dhcp_answer), (0x86dd, advert), (0x88b5, token.encode()),
            (0x8100, b"\\0\\1\\x08\\0" + udp_packet(ip, to_ip, (9, 9), token.encode())),
        ):
            s.send(target + me + struct.pack("!H", kind) + payload.ljust(46, b"\\0"))
def routed(token, to_ip, gateway):
    subprocess.run(["ip", "route", "add", to_ip, "via", gateway])
    send(token, "udp", to_ip, 9, 0); finish()
    subprocess.run(["ip", "route", "del", to_ip, "via", gateway])
def take(mac, ip):
    subprocess.run(["ip", "addr", "add", ip + "/32", "dev", device()])
    s = raw(); me = mac_bytes(mac)
    for _ in range(5):
        s.send(b"\\xff" * 6 + me + b"\\x08\\6" + b"\\0\\1\\x08\\0\\6\\4\\0\\2" + me + socket.inet_aton(ip) + b"\\xff" * 6 + socket.inet_aton(ip))
def give_back(ip): subprocess.run(["ip", "addr", "del", ip + "/32", "dev", device()])
`
