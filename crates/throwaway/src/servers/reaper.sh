# Kills the servers of one folder when the process that started them is gone, however it went.
# Usage: sh -c THIS reaper DIR KEEP; standard input is a pipe whose other end only that process holds.
dir=$1 keep=$2
trap '' HUP INT QUIT TERM
read -r _ || :

# From here on no launcher starts another server: each writes its pid file before it looks for this file.
rm -f "$dir/run/open"

# A pid may belong to somebody else by now, so a process is ours only if it names the folder.
ours() {
  [ -n "$1" ] || return 1
  if [ -r /proc/self/cmdline ]; then
    { cat "/proc/$1/cmdline"; readlink "/proc/$1/cwd"; } 2>/dev/null | grep -qF -- "$dir"
  else
    ps -o args= -p "$1" 2>/dev/null | grep -qF -- "$dir"
  fi
}

# Each server leads a process group of its own, which takes its helpers along.
for file in "$dir"/run/*.pid; do
  [ -e "$file" ] && read -r pid <"$file" && ours "$pid" && { kill -9 "-$pid" || kill -9 "$pid"; } 2>/dev/null
done
for file in "$dir"/run/*.pid; do
  [ -e "$file" ] && read -r pid <"$file" || continue
  tries=0
  while ours "$pid" && [ $tries -lt 100 ]; do tries=$((tries + 1)); sleep 0.05; done
done

# A dying server may still add a file while the folder is emptied, hence the repetition.
if [ -n "$keep" ]; then
  rm -f "$dir"/run/*.pid
else
  tries=0
  until rm -rf -- "$dir" 2>/dev/null || [ $tries -ge 50 ]; do tries=$((tries + 1)); sleep 0.1; done
fi
