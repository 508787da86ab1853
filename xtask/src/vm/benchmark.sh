# What the guest does: the benchmark, what it says, then the files that it wrote. In front of this stand guest.sh and the
# variables BENCHMARK, TOOLS (a folder with programs), ARGUMENTS (words).
export PATH="$PATH:$TOOLS"
{
    "$BENCHMARK" $ARGUMENTS --out /run/out
    echo $? > /run/code
} 2>&1 | sed -u 's/^/SAID /' >&3
for file in /run/out/*; do
    sed "s/^/FILE ${file##*/} /" "$file" >&3
done
echo "EXIT $(cat /run/code)" >&3
power_off
