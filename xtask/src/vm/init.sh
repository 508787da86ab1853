#!/bin/sh
# The guest's first process: loads modules, makes the host's root its own, read-only, and goes on with the job.
mount -t proc proc /proc
mount -t devtmpfs dev /dev
for module in /modules/*; do
    insmod "$module" || echo "cannot load $module"
done
if ! mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose root /new; then
    echo "cannot mount the host's root"
    poweroff -f
fi
mount -t proc proc /new/proc
mount -t sysfs sys /new/sys
mount -t devtmpfs dev /new/dev
mount -t tmpfs tmpfs /new/run
mount -t tmpfs tmpfs /new/var/log
cp /job /new/run/job
exec switch_root /new /bin/sh /run/job
