# attempt.sh LOG BEFORE COMMAND...: run a job's command; while it runs, and after it failed or was killed, LOG.unfinished
# names this attempt. The rules have that name as a parameter (`last_attempt` in common.smk), so that a job that did not end
# well differs from its last record and runs again, whether or not files made of its old output are still there.
# BEFORE is that name, or none, when the job was planned: a job that ends well is left with the parameters it was planned with.
set -eu
unfinished=$1.unfinished before=$2
shift 2
mkdir -p "$(dirname "$unfinished")"
echo "$(date +%Y-%m-%dT%H:%M:%S) $(hostname 2> /dev/null || uname -n) $$" > "$unfinished"
"$@"
if [ "$before" != none ]; then
    echo "$before" > "$unfinished"
else
    rm "$unfinished"
fi
