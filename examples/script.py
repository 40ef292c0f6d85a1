"""Write a pattern to a new namespace of a free host, and read it back: python script.py hosts.dat."""

import sys

from VpmemLibrary.api import NamespaceMode, Pattern, RunMark, Session, Size, entries_of, open_free_host

with Session(RunMark.of_this_run()) as session:
    opened = open_free_host(session, entries_of(sys.argv[1]), timeout=600)
    host = opened.host
    try:
        region = max(host.ndctl.inventory().regions, key=lambda each: each.free_extent)
        namespace = host.namespaces.create(
            region, mode=NamespaceMode.devdax, size=Size.parse("64MiB"), uuid=opened.tenancy.new_uuid()
        )
        pattern = Pattern("my script", length=Size.parse("4MiB"))
        host.content.write(namespace, pattern)
        host.content.verify(namespace.device, pattern).require()
        print(f"{opened.alias}: {namespace.uuid}, {namespace.mode}, {namespace.size}, intact")
    finally:
        session.clean_up()
