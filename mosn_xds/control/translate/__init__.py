"""Translation: xDS messages to Specs. `Translator` is the door, `Translated` what comes out of it."""

from mosn_xds.control.translate.model import ADS as ADS
from mosn_xds.control.translate.model import DnsDiscovery as DnsDiscovery
from mosn_xds.control.translate.model import DnsFamily as DnsFamily
from mosn_xds.control.translate.model import DnsHost as DnsHost
from mosn_xds.control.translate.model import DnsLocality as DnsLocality
from mosn_xds.control.translate.model import Need as Need
from mosn_xds.control.translate.model import NodeContext as NodeContext
from mosn_xds.control.translate.model import Options as Options
from mosn_xds.control.translate.model import Source as Source
from mosn_xds.control.translate.model import SourceKind as SourceKind
from mosn_xds.control.translate.model import Translated as Translated
from mosn_xds.control.translate.translator import Translator as Translator
