# What every guest begins and ends with; the job stands behind it. What is written to descriptor 3 goes line by line to the
# second serial port, which the host reads.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TMPDIR=/run/tmp
exec < /dev/null 3> /dev/ttyS1
stty -F /dev/ttyS1 -opost
mkdir -p /run/tmp /run/netns /run/wireguard /dev/pts /dev/shm
mount -t tmpfs tmpfs /dev/shm
mount -t devpts devpts /dev/pts
mount -t cgroup2 none /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
# As many open files as a test may want that makes 10,000 connections.
ulimit -n 1048576

power_off() {
    sync
    echo o > /proc/sysrq-trigger
    sleep 60
}
