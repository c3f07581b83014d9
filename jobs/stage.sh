#!/usr/bin/env bash
# Runs a command on a node, with the data sets that BRAIN_MRI_STAGE names copied to the node's own disk before.
#
#   BRAIN_MRI_STAGE="chest-xray14 brats2020" bash jobs/stage.sh COMMAND...
#
# The copy lies in a new folder below BRAIN_MRI_LOCAL (default: $TMPDIR), which BRAIN_MRI_DATA then names, and goes when
# the command ends. Other data sets are links in it; raw/, which training does not read, is one, too.
[[ -n ${BRAIN_MRI_STAGE:-} ]] || exec "$@"
shared=$(realpath "${BRAIN_MRI_DATA:-datasets}") || exit
disk=${BRAIN_MRI_LOCAL:-${TMPDIR:-/tmp}}
fail() {
    echo "error: $*" >&2
    exit 1
}

for name in $BRAIN_MRI_STAGE; do
    [[ -f $shared/$name/images.h5 ]] ||
        fail "BRAIN_MRI_STAGE: no data set '$name' in $shared; datasets/download.py brings it in"
done
here=$(mktemp -d "$disk/brain-mri.XXXXXX") || fail "$disk: no folder can be made there; set BRAIN_MRI_LOCAL"
trap 'rm -rf "$here"' EXIT
for folder in "$shared"/*/; do
    name=$(basename "$folder")
    if [[ " $BRAIN_MRI_STAGE " != *" $name "* ]]; then
        [[ ! -f $folder/images.h5 ]] || ln -s "$folder" "$here/$name"
        continue
    fi
    mkdir "$here/$name"
    for item in "$folder"*; do
        if [[ $(basename "$item") == raw ]]; then
            ln -s "$item" "$here/$name/raw"
        else
            cp -r "$item" "$here/$name/" || fail "$disk: '$name' does not fit there; set BRAIN_MRI_LOCAL to another disk"
        fi
    done
done

BRAIN_MRI_DATA=$here "$@" &
command=$!
trap 'kill -TERM "$command" 2>/dev/null' TERM INT
echo "$(uname -n): $BRAIN_MRI_STAGE copied to $here ($(du -sh "$here" | cut -f1))"
while kill -0 "$command" 2>/dev/null; do wait "$command"; done
wait "$command"
