"""A stand-in for gcloud and Cloud TPU on this machine: slices are state machines, workers are folders and local processes.

`service.py` keeps the state of queued resources, TPU VMs and buckets; `machines.py` runs commands on workers;
`command_line.py` is what stands first on PATH as `gcloud`; `scenario.py` says what goes wrong and when. The words of answers
and errors follow gcloud 528. Time is counted in calls: every look at a resource moves it on, so no test waits.
"""
