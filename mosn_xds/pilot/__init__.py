"""The embedded control plane: xDS resources from a directory, from Python or from a recording, served over real ADS.

It imports neither half of the data plane: what it proves, it proves over the wire.
"""

from mosn_xds.pilot.authority import CertificateAuthority as CertificateAuthority
from mosn_xds.pilot.authority import CertificateService as CertificateService
from mosn_xds.pilot.resources import Change as Change
from mosn_xds.pilot.resources import ResourceSet as ResourceSet
from mosn_xds.pilot.server import Pilot as Pilot
