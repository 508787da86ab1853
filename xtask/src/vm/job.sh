# What the guest does: every test in a process of its own, a line for each. In front of this stand guest.sh and the variables
# TESTS (the test binary), CHOSEN (parts of names, all tests if empty), FROM (the first of them to run, if not the first of
# all), LIMIT (seconds for a test).
echo "READY $(uname -r)" >&3
failed=0
for name in $("$TESTS" --list --format terse $CHOSEN | sed -n 's/: test$//p'); do
    if [ -n "$FROM" ]; then
        [ "$name" = "$FROM" ] || continue
        FROM=
    fi
    begin=$(cut -d. -f1 /proc/uptime)
    echo "BEGIN $name" >&3
    timeout -s KILL "$LIMIT" "$TESTS" --exact "$name" --nocapture > /run/tmp/said 2>&1
    code=$?
    took=$(($(cut -d. -f1 /proc/uptime) - begin))
    if [ "$code" != 0 ]; then
        echo "FAILED $name $took" >&3
        tail -c 200000 /run/tmp/said | sed 's/^/SAID /' >&3
        failed=1
    elif grep -q '^left out: ' /run/tmp/said; then
        echo "LEFT $name $took $(sed -n 's/^left out: //p' /run/tmp/said | head -n 1)" >&3
    elif grep -q ' 1 ignored;' /run/tmp/said; then
        echo "LEFT $name $took $(sed -n 's/^test .* ignored, //p' /run/tmp/said | head -n 1)" >&3
    else
        echo "PASSED $name $took" >&3
    fi
done
echo "EXIT $failed" >&3
power_off
